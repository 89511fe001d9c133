"""Pick archives that outgrow one machine: object storage, many workers, and partitioned Parquet.

A station is cut into blocks of days. A block is read twice. First `blocks.survey` reads the headers of its files, because the time
grid of a record and the choice of its channels depend on all files of a station. Then `blocks.pick_block` picks its days. Both can be
repeated at any time: what is done is in the objects of the output (see `dataset`), never in a scheduler.
"""
