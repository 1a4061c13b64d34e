"""The life of a media record: created, its content replaced, deleted. The order of writes is the
whole point.

    create   record ``pending`` → bytes → record ``available``
    replace  new bytes under a new key → record names them → old bytes gone → variants gone
    delete   record ``deleting`` → variants gone → bytes gone → record gone, after the grace time
    trash    record ``trashed``, bytes kept → record ``available`` again,
             or deleted after the trash time

Readers see only ``available`` records. A process killed between any two steps leaves a complete
record, or an unfinished one that nobody sees and :func:`~flask_dualmedia.upkeep.sweeping.sweep`
takes away. A home that writes a record and its bytes in one step leaves all or nothing.

A change names the version of the record that it is built on. A statement that was given up, and
arrives when others have been acknowledged, changes nothing then.
"""

from .changes import change, count_access, edit, revoke_links
from .creation import check_owner, create, create_external, foresee, publish
from .deletion import (
    clean_up,
    delete,
    delete_of_owner,
    purge,
    remove_unseen,
    remove_variant,
    remove_variants,
)
from .description import classify, describe
from .replacement import replace

__all__ = [
    "change",
    "check_owner",
    "classify",
    "clean_up",
    "count_access",
    "create",
    "create_external",
    "delete",
    "delete_of_owner",
    "describe",
    "edit",
    "foresee",
    "publish",
    "purge",
    "remove_unseen",
    "remove_variant",
    "remove_variants",
    "replace",
    "revoke_links",
]
