"""engine: the use cases, in the order of their steps and of their undoing, and the policy that they share.

    engine     what every use case needs, built once by the daemon
    table      the containers in memory, found by id, prefix or name
    create, start, ending, remove, stop, execute, attach
               a use case each; `ending` also is the keeper of the tasks
    recovery   a new supervisor finds what its predecessor left
    events     what happened, for those who listen
    sweeping   directories removed in batches, behind the answer
    policy     the wish (model.Options) to an OCI config, with capabilities, defaults, limits, users, volumes

Enters: the api. The engine introduces the rooms below it to each other; they do not know each other.
"""
