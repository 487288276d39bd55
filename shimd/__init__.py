"""shimd: what happens inside and beside one container.

The ground floor of asyncrt: the low-level runtime (config to plan to container) and the shim that holds one
container's stdio, log and exit status. It imports the standard library and msgpack, nothing else, since every
forked shim carries what it imports.

    server/     the zygote and the shim
    container/  the low-level runtime: lifecycle table, plan, operations, launch
    spec/       config.json and state: data and validation
    linux/      the kernel: one wrapper per system call
    wire/       the messages between supervisor, zygote, shim and init

asyncrt enters by three doors: wire, spec and linux.
"""
