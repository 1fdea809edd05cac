"""Opening an object's keys, with the vault's key or a recipient's."""

import hmac
from typing import TypeAlias

from cipher.container.beginning import Beginning
from cipher.container.object_keys import ObjectKeys, unwrap
from cipher.container.recipients import list_recipients, unwrap_for
from cipher.errors import Damaged, WrongKey
from cipher.keys.recipient_key import RecipientKey
from cipher.keys.vault_key import VaultKey

OpeningKey: TypeAlias = VaultKey | RecipientKey
"""Key that opens an object: the key of its vault, or of one of its recipients."""


def unlock(beginning: Beginning, key: OpeningKey) -> tuple[bytes, ObjectKeys]:
    """The data key, and the keys derived from it; the header is verified.

    Raises:
        WrongKey: the object is not for this key.
        Damaged: a slot or the header was changed.
    """
    if isinstance(key, VaultKey):
        data_key = unwrap(beginning.parsed_slots(), key)
    else:
        found = unwrap_for(beginning.recipients, key)
        if found is None:
            named = ", ".join(recipient.key_id[:8] for recipient in list_recipients(beginning.recipients)) or "nobody"
            raise WrongKey(f"The sealed object is not shared with recipient {key.key_id[:8]}; it is with {named}.")
        data_key = found
    keys = ObjectKeys.derive(data_key, beginning.header.salt)
    commitment = keys.commitment(beginning.prefix_bytes, beginning.header_bytes)
    if not hmac.compare_digest(commitment, beginning.commitment):
        raise Damaged(
            "The key is right, but the header of the sealed object was changed, or is another object's; restore it "
            "from a backup."
        )
    return data_key, keys
