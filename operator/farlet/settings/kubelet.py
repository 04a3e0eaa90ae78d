"""Settings of the kubelet API: listener, certificates, client authentication."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from farlet.settings import values
from farlet.settings.base import BaseFarletSettings, Port
from farlet.settings.loading import Flag, Group


class KubeletSettings(BaseFarletSettings):
    """The kubelet API and the certificates of the node."""

    kubelet_port: Annotated[Port, Flag(Group.KUBELET, "PORT")] = Field(
        10250,
        description="Port of the kubelet API in the status of the Node. The home API server "
        "connects to it for kubectl logs, exec, attach and port-forward.",
    )
    kubelet_bind_address: Annotated[
        values.Address | None,
        Flag(Group.KUBELET, "HOST:PORT|0", default=":<kubelet-port>"),
        BeforeValidator(values.bind_address),
    ] = Field(
        default_factory=lambda given: values.Address("", given["kubelet_port"]),
        description="Address that the kubelet API listens on, if it differs from the port in the "
        "status of the Node; 0 disables the kubelet API, and the Node shows no port.",
    )
    client_ca_file: Annotated[
        Path | None,
        Flag(
            Group.KUBELET,
            "FILE",
            default="the CA in the ConfigMap kube-system/extension-apiserver-authentication, if "
            "farlet is allowed to read it",
        ),
        BeforeValidator(values.file),
    ] = Field(
        None,
        description="PEM certificates of the CAs whose client certificates the kubelet API "
        "accepts. Must include the CA of the home API server's client certificate. Reloaded when "
        "the file changes.",
    )
    tls_cert_file: Annotated[
        Path | None,
        Flag(
            Group.KUBELET, "FILE", default="requested from the signer kubernetes.io/kubelet-serving"
        ),
        BeforeValidator(values.file),
    ] = Field(
        None,
        description="PEM certificate of the kubelet API, followed by its chain. Reloaded when the "
        "file changes.",
    )
    tls_private_key_file: Annotated[
        Path | None,
        Flag(Group.KUBELET, "FILE", default="none"),
        BeforeValidator(values.file),
    ] = Field(None, description="PEM private key of --tls-cert-file.")
    cert_dir: Annotated[
        Path | None,
        Flag(Group.KUBELET, "DIR", default="kept in memory"),
        BeforeValidator(values.directory),
    ] = Field(
        None,
        description="Directory for certificates that farlet requested from signers of the home "
        "cluster, so that a restart does not request new ones.",
    )
    rotate_certificates: Annotated[bool, Flag(Group.CLUSTERS, "true|false")] = Field(
        default=False,
        description="Renew the client certificate of the node identity through the signer "
        "kubernetes.io/kube-apiserver-client-kubelet. farlet keeps the new certificate in "
        "--cert-dir and uses it in place of the one in the kubeconfig, which it never writes.",
    )

    @model_validator(mode="after")
    def _certificates_are_consistent(self) -> KubeletSettings:
        if (self.tls_cert_file is None) is not (self.tls_private_key_file is None):
            raise ValueError(
                "--tls-cert-file and --tls-private-key-file belong together; set both or neither"
            )
        if self.rotate_certificates and self.cert_dir is None:
            raise ValueError(
                "--rotate-certificates requires a directory for the new certificate; set --cert-dir"
            )
        return self
