"""The field table has a row for every PodSpec field of a real API server, and no other row."""

from clusters import rest
from farlet.forge import fields


async def test_the_table_lists_the_fields_of_the_api(foreign: rest.Api) -> None:
    document = await foreign.request("GET", "/openapi/v3/api/v1")
    schema = document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]
    assert fields.FIELDS.keys() == schema["properties"].keys()
