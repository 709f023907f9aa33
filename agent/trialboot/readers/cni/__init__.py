"""Who makes the pod network: the CNI's configuration, its agents, and what their logs say.

All of it lies where others write: bytes of any kind, links, pipes, files without an end. So
everything is read up to a limit, nothing is waited for, and what makes no sense is left out.
"""
