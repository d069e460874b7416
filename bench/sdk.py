"""`python -m bench.sdk BASE_URL ACCOUNT INSTANCE FOLDER`: upload every file with the official SDK, eight at a time.

This is the obvious script without syncd: a loop in threads, no state, no checks.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloudflare import Cloudflare

from bench.bare import IN_FLIGHT


def main(base_url: str, account: str, instance: str, root: Path) -> None:
    """Upload all files. An unsuccessful answer ends the upload."""
    with Cloudflare(api_token="bench", base_url=base_url, max_retries=0) as client:
        items = client.aisearch.namespaces.instances.items

        def upload(file: Path) -> None:
            # Separate keys, because syncd has uploaded the files under their own names.
            named = (f"sdk/{file.relative_to(root)}", file.read_bytes())
            metadata = '{"owner": "sdk"}'
            items.upload(instance, account_id=account, name="default", file={"file": named, "metadata": metadata})

        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for _ in pool.map(upload, sorted(root.rglob("*.md"))):
                pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
