"""Running generated programs with their tests, without harm to the machine, and whether they pass.

Each program runs in a process of its own (``program.py``), which cannot reach the network, other processes, files of
the machine, or more than its share of time and memory (``jail.py``). The tests run in a second process
(``tester.py``), and only the arguments and the results of the functions that they call pass between the two. A program
therefore never holds what decides about it, neither the tests nor the verdict; without namespaces (``isolation:
seccomp``), it can read the tests from the disk.
"""
