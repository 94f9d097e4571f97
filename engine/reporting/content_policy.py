"""What the content security policy of a page says about its script."""

import base64
import hashlib


def script_digest(script: str) -> str:
    """The SHA-256 of a script in base64, with which a policy allows it and no other one."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
