"""What knows torch and nothing of crossbars: batches, loaders, modes, symbolic values.

It imports nothing of cimq but the classes of its errors. Private names of torch are used in `private_names` alone.
"""
