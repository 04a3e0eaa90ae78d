"""The field table has a row for every PodSpec field of a real API server.

`tests/skew` does the same for the other versions of Kubernetes.
"""

from clusters import rest
from farlet.forge import fields

OF_OTHER_VERSIONS = {"evictionResponders", "workloadRef"}


async def test_the_table_lists_the_fields_of_the_api(foreign: rest.Api) -> None:
    document = await foreign.request("GET", "/openapi/v3/api/v1")
    schema = document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]
    assert fields.FIELDS.keys() - OF_OTHER_VERSIONS == schema["properties"].keys()
