"""``sr_x3_masked``: ``sr_x3`` after further training that drove some channels' masks to zero.

The network, the data and the training are those of ``models.sr_x3``; here are the file and what measures it.
"""
