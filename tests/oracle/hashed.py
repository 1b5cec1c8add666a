"""Numbers that C and Python make alike (hashed.h), for inputs of golden figures."""


def words(n, c):
    """Row c of 32-bit words."""
    import numpy as np
    u = (np.arange(n, dtype=np.uint32) + np.uint32(1000003 * c)) * np.uint32(2654435761)
    u = (u ^ (u >> np.uint32(15))) * np.uint32(2246822519)
    return u ^ (u >> np.uint32(13))


def numbers(n, c):
    """The same in [-2, 2), 24 bits."""
    import numpy as np
    return (words(n, c) >> np.uint32(8)).astype(np.float32) * np.float32(2.0 ** -22) - np.float32(2)
