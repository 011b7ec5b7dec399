"""Many objects: stages as tasks of local processes, of a Ray cluster or of SLURM.

``objects`` reads what there is to do, ``plan`` makes tasks of it, ``schedule`` hands them to an engine and follows
them, ``work`` carries one out on whatever node it lands, ``home`` is where the runs lie, ``table``, ``view`` and
``page`` tell of it.
"""
