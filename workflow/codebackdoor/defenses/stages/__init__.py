"""The jobs of the workflow that filter rows, edit victims or rewrite inputs: files in, files out.

A module has the function that a command (``commands.defenses``) calls, and ``dag.parameters.STAGES`` names it: a job's
fingerprint covers the module and everything that it imports. So every stage has a module of its own, and a stage that
uses no victim imports nothing that loads or runs one. What several stages share is in ``job``, ``kept_rows`` and
``purified_rows``. A stage of one method or kit (``probe``, ``calibrate``, ``gradients``) is in its folder instead.
"""
