"""`core serve`: one server that the clients of OpenAI, TEI and Cohere take unchanged.

Read the listing along the way of a request: `command` (arguments) starts `serving` (sockets and
signals), which runs `app` (routes, request ids, the key). A `surfaces` module reads a body and
writes an answer; between the two, `dispatcher` puts texts into a `fair_queue`, takes batches out of
it, and has an `engine` compute them.
"""
