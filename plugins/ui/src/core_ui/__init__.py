"""A page in the browser to make, compare and publish variants of embedding models.

`core ui` starts it (`command`). Each page (`pages`) turns what is typed into command lines of
`core`, which run in processes of their own (`jobs`, `child`), and shows what they print (`markup`).
"""
