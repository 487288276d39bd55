"""The OCI runtime-spec documents as data: config.json in, typed values out.

Nouns: a *document* is what json.loads or msgpack gives (dict, list, str, int, bool, None); a *Config*
is its typed, frozen form; a *state* document tells what became of a container; a *notice* is what a
user should hear though the container can run.

Lifecycle: ``validate.load(document)`` decodes (types, required properties, ranges), checks (rules
across properties) and tidies (relative destinations, unknown capabilities) in this order, and raises a
``SpecError`` that names the JSON path. ``decode.encode(value)`` is the way back. Nothing here opens a
file, makes a syscall or knows this machine: what only the kernel can say is checked by ``container``.

    config.py      the types (linux.py and resources.py hold their parts, scalars.py the ranges)
    decode.py      documents to types and back
    validate.py    load: decode, check, tidy; process_, linux_, resource_ and seccomp_rules.py are its tables
    state.py       what a runtime prints
    errors.py      SpecError, Finding

Who enters: ``shimd.container`` compiles a Config into a plan; ``asyncrt.engine`` writes Configs from
policy; the OCI command line loads bundles and prints states.
"""
