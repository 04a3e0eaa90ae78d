"""The settings of the kubelet API: where it listens, and whom it believes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from farlet.settings import values
from farlet.settings.base import BaseFarletSettings, whole
from farlet.settings.loading import Flag, Group


class KubeletSettings(BaseFarletSettings):
    """What home's API server meets at the node's port."""

    kubelet_port: Annotated[int, Flag(Group.KUBELET, "PORT"), whole(1, 65535)] = Field(
        10250,
        description="Port of the kubelet API as the Node tells it to home's API server, which "
        "dials the Node's address with it for kubectl logs, exec, attach and port-forward.",
    )
    kubelet_bind_address: Annotated[
        values.Address | None,
        Flag(Group.KUBELET, "HOST:PORT|0", default=":<kubelet-port>"),
        BeforeValidator(values.bind_address),
    ] = Field(
        default_factory=lambda given: values.Address("", given["kubelet_port"]),
        description="Where the kubelet API listens, should that differ from the port that the Node "
        "tells; 0 turns it off, and the Node names no port.",
    )
    client_ca_file: Annotated[
        Path | None,
        Flag(
            Group.KUBELET,
            "FILE",
            default="what home's API server publishes in kube-system/"
            "extension-apiserver-authentication, where farlet may read it",
        ),
        BeforeValidator(values.file),
    ] = Field(
        None,
        description="PEM certificates of the CAs whose client certificates the kubelet API "
        "believes: that of home's API server above all. Read again when it changes.",
    )
    tls_cert_file: Annotated[
        Path | None,
        Flag(Group.KUBELET, "FILE", default="one is asked for from kubernetes.io/kubelet-serving"),
        BeforeValidator(values.file),
    ] = Field(
        None,
        description="PEM certificate with which the kubelet API is served, its chain behind it. "
        "Read again when it changes.",
    )
    tls_private_key_file: Annotated[
        Path | None,
        Flag(Group.KUBELET, "FILE", default="none"),
        BeforeValidator(values.file),
    ] = Field(None, description="The key of --tls-cert-file, in PEM.")
    cert_dir: Annotated[
        Path | None,
        Flag(Group.KUBELET, "FOLDER", default="they are kept in memory"),
        BeforeValidator(values.folder),
    ] = Field(
        None,
        description="Where certificates are kept that home's signers granted, so that a restart "
        "needs no new ones.",
    )
    rotate_certificates: Annotated[
        bool, Flag(Group.CLUSTERS, "true|false"), BeforeValidator(values.switch)
    ] = Field(
        default=False,
        description="Renew the client certificate of a node identity at home by "
        "kubernetes.io/kube-apiserver-client-kubelet. The new one is kept in --cert-dir and used "
        "in place of the kubeconfig's, which is not written.",
    )

    @model_validator(mode="after")
    def _certificates_fit(self) -> KubeletSettings:
        if (self.tls_cert_file is None) is not (self.tls_private_key_file is None):
            raise ValueError(
                "--tls-cert-file and --tls-private-key-file belong together; give both or none"
            )
        if self.rotate_certificates and self.cert_dir is None:
            raise ValueError(
                "--rotate-certificates needs a folder for what it is granted; give --cert-dir"
            )
        return self
