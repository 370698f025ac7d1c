"""Keeping what libraries do with a strange model from becoming what happens to the user.

onnx's checker and shape inference and all of onnxruntime are native code. On a model that nobody has seen they may die by a signal,
never come back, or ask for more memory than the machine has, and no exception handler helps. So the work is done by a process that
may die, and another one, which cannot, tells what became of it:

- the command line forks before anything heavy is imported; the parent waits (``supervisor``);
- the Python interface, which must not fork its caller, asks a worker process first (``graphopt.verify.isolated``).

What they share: ``doing`` (a page of memory on which the working process writes what it is about to do, and until when it may
take), ``limits`` (how much memory and time a model may take until it is known), ``death`` (the diagnostic of a process that died).

    GO040   a library crashed on the model
    GO041   it did not come back in time
    GO042   the model asks for more memory than it may have

Nothing but the standard library is imported here.
"""
