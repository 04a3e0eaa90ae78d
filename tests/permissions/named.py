"""The test that each rule of a shipped Role names: without the rule it fails.

Where several tests fail, it is the fastest of those that show what the rule is for. Verbs that
different clients cause have tests of their own.
"""

_REGISTRATION = "tests/integration/nodes/test_registration.py"
_KUBELET_ACCESS = "tests/integration/nodes/test_kubelet_access.py"
_DRAIN = "tests/integration/nodes/test_drain.py"
_OUTAGES = "tests/integration/nodes/test_outages.py"
_BAD_INPUT = "tests/integration/test_bad_input.py"
_CERTIFICATES = "tests/integration/test_certificates.py"
_CHANGES = "tests/integration/test_changes.py"
_CREATED = "tests/integration/test_created_namespaces.py"
_EVENTS = "tests/integration/test_mirror_events.py"
_EXEC = "tests/integration/test_kubelet_exec.py"
_LOGS = "tests/integration/test_kubelet_logs.py"
_OBJECTS = "tests/integration/test_config_maps_and_secrets.py"
_OLDER = "tests/integration/test_older_websockets.py"
_PITFALLS = "tests/integration/test_known_pitfalls.py"
_PORTS = "tests/integration/test_kubelet_ports.py"
_REFLECTED = "tests/integration/test_reflected_services.py"
_TOP = "tests/integration/test_top.py"
_DEBUG = "tests/integration/test_kubectl_debug.py"
_VOLUMES = "tests/integration/test_volumes.py"
_MANAGER = "tests/integration/test_manager_process.py"
_CREDENTIALS = "tests/integration/test_manager_credentials.py"
_REQUEST = "tests/faults/test_certificate_request.py"
_LEADERSHIP = "tests/faults/test_leadership.py"

_NODE = f"{_REGISTRATION}::test_the_node_has_all_that_kubectl_and_the_scheduler_require[account]"
_OUTAGE = f"{_OUTAGES}::test_an_account_with_the_shipped_bindings_shows_an_outage_on_its_node"
_STARTS = f"{_BAD_INPUT}::test_a_pod_starts_after_its_annotation_is_corrected"
_ENDS = f"{_BAD_INPUT}::test_a_home_pod_that_waits_for_a_used_name_can_be_deleted"
_OUR_SECRET = f"{_BAD_INPUT}::test_a_foreign_secret_that_uses_our_name_is_left_alone"
_CLIENTS = f"{_KUBELET_ACCESS}::test_clients_get_the_responses_of_a_kubelet"
_CLIENT_CA = f"{_KUBELET_ACCESS}::test_the_home_api_server_s_client_certificate_is_accepted"
_REASON = f"{_PITFALLS}::test_an_invalid_annotation_grants_no_access_and_sets_a_reason[mistyped]"
_TOKEN = f"{_PITFALLS}::test_a_token_has_the_requested_lifetime[by default an hour]"
_REMOTE = f"{_PITFALLS}::test_no_home_token_is_created_for_pods_without_home_access"
_SERVICE = (
    f"{_CERTIFICATES}::test_pods_wait_while_the_server_behind_the_service_has_an_invalid_certificate"
    "[another cluster]"
)
_VOLUME = (
    f"{_VOLUMES}::"
    "test_a_generic_ephemeral_volume_ends_with_its_pod_and_errors_are_events_of_the_claim"
)
_DATA = f"{_VOLUMES}::test_a_stateful_set_keeps_its_data_until_its_claim_is_deleted[account]"
_REFLECTION = (
    f"{_REFLECTED}::test_a_mirror_reaches_another_one_through_a_service_of_the_home_cluster"
)
_CREATION = f"{_CREATED}::test_the_shipped_roles_are_enough_to_create_a_namespace"
_LOCK = f"{_LEADERSHIP}::test_a_service_account_can_use_another_lease_as_lock"
_VIRTUAL_NODE = f"{_MANAGER}::test_a_virtual_node_gets_its_objects_and_a_status"
_APPROVAL = f"{_CREDENTIALS}::test_serving_certificates_are_approved_for_addresses_of_its_pods_only"

TESTS = {
    # --- farlet in the home cluster ---------------------------------------------------------------
    "home cluster: list, watch pods": _STARTS,
    "home cluster: create nodes": _NODE,
    "home cluster: get, list, watch, patch nodes": _NODE,
    "home cluster: patch nodes/status": _OUTAGE,
    "home cluster: create tokenreviews.authentication.k8s.io": _CLIENTS,
    "home cluster: create subjectaccessreviews.authorization.k8s.io": _CLIENTS,
    "home cluster: create, get, watch certificatesigningrequests.certificates.k8s.io": (
        f"{_REQUEST}::test_a_certificate_issued_while_the_home_api_server_is_unreachable_is_found"
    ),
    "home cluster: get namespaces": (
        f"{_CREATED}::"
        "test_a_namespace_is_created_with_its_first_pod_and_deleted_with_its_home_namespace"
    ),
    "home cluster: list, watch services": _REFLECTION,
    "home cluster: list, watch endpointslices.discovery.k8s.io": _REFLECTION,
    "home cluster: get, list, watch persistentvolumeclaims": _VOLUME,
    "home cluster: patch persistentvolumeclaims/status": _DATA,
    "home cluster: get, list, watch, create, patch, delete persistentvolumes": _VOLUME,
    "home cluster: get storageclasses.storage.k8s.io": _VOLUME,
    "home offloaded: get, delete pods": _ENDS,
    "home offloaded: patch pods/status": _STARTS,
    "home offloaded: create serviceaccounts/token": _TOKEN,
    "home offloaded: create events": _REASON,
    "home offloaded: patch events": (
        f"{_EVENTS}::test_describe_shows_why_a_pod_does_not_run[account]"
    ),
    "home offloaded: get, list, watch configmaps": (
        f"{_OBJECTS}::test_copies_follow_the_home_objects_and_end_with_the_last_pod"
    ),
    "home offloaded: get, list, watch secrets": (
        f"{_OBJECTS}::test_a_container_reads_what_the_home_cluster_has[account]"
    ),
    "home offloaded: create pods/eviction": (
        f"{_DRAIN}::test_the_node_is_empty_and_not_ready_after_the_exit_and_ready_after_the_next_start"
        "[account]"
    ),
    "home default: get services": _STARTS,
    "home default: create events": _OUTAGE,
    "home kube-node-lease: create leases.coordination.k8s.io": _LOCK,
    "home kube-node-lease: get, update leases.coordination.k8s.io": _LOCK,
    "home own: create, get, update leases.coordination.k8s.io": _LOCK,
    "home kube-system: get, watch configmaps": _CLIENT_CA,
    # --- farlet in the foreign cluster ------------------------------------------------------------
    "foreign own: get, create, patch configmaps": _STARTS,
    "foreign own: get namespaces": _STARTS,
    "foreign own: list, watch services": _SERVICE,
    "foreign own: list, watch pods": _SERVICE,
    "foreign own: get pods/portforward": _SERVICE,
    "foreign own: create pods/portforward": _SERVICE,
    "foreign offloaded: get, list, watch, create, patch, delete pods": _STARTS,
    "foreign offloaded: patch pods/resize": (
        f"{_CHANGES}::test_a_container_is_resized_while_it_runs[account]"
    ),
    "foreign offloaded: get, list, watch, create, update, patch, delete secrets": _OUR_SECRET,
    "foreign offloaded: get namespaces": _STARTS,
    "foreign offloaded: get, list, watch, create, update, patch, delete configmaps": (
        f"{_OBJECTS}::test_copies_follow_the_home_objects_and_end_with_the_last_pod"
    ),
    "foreign offloaded: get, list, watch, create, patch, delete persistentvolumeclaims": _VOLUME,
    "foreign offloaded: list, watch serviceaccounts": _REMOTE,
    "foreign offloaded: list, watch events": (
        f"{_EVENTS}::test_describe_shows_where_a_pod_runs_and_a_restart_replays_nothing"
    ),
    "foreign offloaded: get pods/log": f"{_LOGS}::test_logs_are_limited_as_requested",
    "foreign offloaded: patch pods/ephemeralcontainers": (
        f"{_DEBUG}::test_the_default_profile_traces_where_that_is_allowed[account]"
    ),
    "foreign offloaded: create pods/exec": (
        f"{_EXEC}::test_exec_returns_output_errors_and_exit_codes[WebSocket]"
    ),
    "foreign offloaded: get pods/exec": (
        f"{_OLDER}::test_exec_of_an_older_client_returns_output_and_status"
    ),
    "foreign offloaded: create pods/attach": (
        f"{_EXEC}::test_attach_connects_to_the_running_program"
    ),
    "foreign offloaded: get pods/attach": (
        f"{_OLDER}::test_attach_of_an_older_client_connects_to_the_running_program"
    ),
    "foreign offloaded: create pods/portforward": (
        f"{_PORTS}::test_50_concurrent_connections_are_separate[WebSocket]"
    ),
    "foreign offloaded: get pods/portforward": (
        f"{_OLDER}::test_port_forward_of_an_older_client_starts_with_the_port"
    ),
    "foreign offloaded: list pods.metrics.k8s.io": (
        f"{_TOP}::test_kubectl_top_shows_the_same_in_both_clusters[measured]"
    ),
    "foreign offloaded: list, watch, create, update, delete services": _REFLECTION,
    "foreign offloaded: list, watch, create, update, delete endpointslices.discovery.k8s.io": (
        _REFLECTION
    ),
    "foreign cluster: list, watch nodes": (
        f"{_REGISTRATION}::test_capacity_is_the_sum_over_foreign_nodes_and_follows_them"
    ),
    "foreign cluster: get, create, delete namespaces": _CREATION,
    "foreign cluster: create rolebindings.rbac.authorization.k8s.io": _CREATION,
    "foreign cluster: bind clusterroles.rbac.authorization.k8s.io": _CREATION,
    "foreign created: create resourcequotas": _CREATION,
    "foreign created: create networkpolicies.networking.k8s.io": _CREATION,
    # --- the manager ------------------------------------------------------------------------------
    "manager namespace: get, list, watch virtualnodes.farlet.io": _VIRTUAL_NODE,
    "manager namespace: patch virtualnodes/status.farlet.io": _VIRTUAL_NODE,
    "manager namespace: get, list, watch, create, patch deployments.apps": _VIRTUAL_NODE,
    "manager namespace: get, list, watch, create, patch serviceaccounts": _VIRTUAL_NODE,
    "manager namespace: get, list, watch, create, patch poddisruptionbudgets.policy": (
        _VIRTUAL_NODE
    ),
    "manager namespace: get, list, watch, create, patch networkpolicies.networking.k8s.io": (
        _VIRTUAL_NODE
    ),
    "manager namespace: get, list, watch pods": _APPROVAL,
    "manager namespace: get, list, watch, create, patch secrets": _VIRTUAL_NODE,
    "manager cluster: get, list, watch, create certificatesigningrequests.certificates.k8s.io": (
        _VIRTUAL_NODE
    ),
    "manager cluster: update certificatesigningrequests/approval.certificates.k8s.io": _APPROVAL,
    "manager cluster: approve signers.certificates.k8s.io": _APPROVAL,
}  # fmt: skip
"""By the text of a rule: the test, by its id in pytest."""
