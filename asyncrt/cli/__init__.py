"""cli: words into calls, results into pictures. A file per verb, loaded when the verb is used.

    main      global flags, the verb, errors into one line and an exit code
    verb      what a verb is; the table of them
    flags     docker's flag syntax: reading, and the nearest match for a typo
    places    root, state and socket: flags, environment, defaults
    connect   the door to the supervisor, which the first command that needs one starts

It sees sdk, model and errors; it decides nothing that a container would notice.
"""
