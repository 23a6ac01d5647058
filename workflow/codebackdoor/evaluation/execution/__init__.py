"""Runs generated programs with their tests, isolated from the machine, and reports whether they pass.

Each program runs in its own process (``program.py``), which cannot reach the network, other processes or the machine's
files, and has limited time and memory (``jail.py``). The tests run in a second process (``tester.py``); only arguments
and results of the functions that they call pass between the two. A program therefore has access to neither the tests
nor the verdict, except that without namespaces (``isolation: seccomp``) it can read the tests from the disk.
"""
