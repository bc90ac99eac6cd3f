"""The loader that one writes with Elasticsearch's client for Python: parallel_bulk over documents.

    bulk_load.py URL CONNECTIONS BODY...

A BODY is that of a bulk request: what was to be made of the documents is known, and costs nothing here.
"""

import sys

import orjson
from elasticsearch import Elasticsearch
from elasticsearch.helpers import parallel_bulk


def actions(paths):
    for path in paths:
        with open(path, "rb") as body:
            for head in body:
                place = orjson.loads(head)["create"]
                yield {"_op_type": "create", **place, "_source": orjson.loads(next(body))}


def main(url, connections, *paths):
    client = Elasticsearch(url, http_compress=True, request_timeout=120)
    loaded = parallel_bulk(
        client, actions(paths), thread_count=int(connections), chunk_size=5_000, max_chunk_bytes=5 << 20
    )
    print(sum(1 for done, _ in loaded if done))


main(*sys.argv[1:])
