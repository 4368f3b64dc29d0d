"""The house's risk: what a seller gets for an accepted lead that nobody bought.

```
GUARANTEE    Dr house.margin    Cr seller.payable    the amount its terms guarantee
```
Booked in the commit in which the lead ends unsold, and in no other: the lead leaves its state once.
The amount was fixed when the lead was accepted, and is none for a test, a duplicate, or a lead that
was sold and returned: what its seller keeps of that, the clawback terms say.
"""

from datetime import datetime

from exchange.core.ledger import HOUSE, TransferCode, derived_id
from exchange.core.records import TransferRow


def guarantee_transfers(
    *, lead_id: str, seller_id: int, amount_micros: int, currency: str, at: datetime
) -> tuple[TransferRow, ...]:
    """The one transfer of a guarantee, or none where nothing is guaranteed."""
    if not amount_micros:
        return ()
    code = int(TransferCode.GUARANTEE)
    return (
        TransferRow(
            transfer_id=derived_id(lead_id, code, 0),
            lead_id=lead_id,
            attempt_id=None,
            code=code,
            debit_party=HOUSE,
            debit_kind="margin",
            credit_party=seller_id,
            credit_kind="payable",
            amount_micros=amount_micros,
            currency=currency,
            reverses=None,
            at=at,
        ),
    )
