"""Public files onto this disk: the only code of scottbench that opens a socket, and only for `scottbench fetch`.

A table (table.py) says what there is; places.py where it goes; ledger.py what was verified; web.py gets one file by HTTP; hub.py asks
the hub about one; unpack.py opens archives; work.py does several at once; carry.py serves machines without a network.
"""
