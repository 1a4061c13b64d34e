"""Break everything at random, and see whether anything that was acknowledged is lost.

``python -m tests.tools.chaos --seconds 60 --seed N``. Clients upload, edit, replace, delete, read
and list through proxies that cut connections, and keep ledgers of what they were told. Meanwhile
servers and workers are killed with ``kill -9`` or stopped, single statements arrive late, their
answers are lost, and one of two hosts has a wrong clock. Somebody drains, sweeps, checks, repairs
and transfers all the time. In the end everything is up, and
:mod:`tests.tools.history` must find an order of operations that explains every answer.

    clients      ask, and write down what they are told                  :mod:`.clients`
    deployment   two databases, two hosts, and proxies between them      :mod:`.deployment`
    faults       break it on a schedule, and mend it                     :mod:`.faults`
    operator     types commands meanwhile                                :mod:`.operator`
    judgement    looks at all that there is afterwards                   :mod:`.judgement`
    plants       take a safeguard away, to see that this is found        :mod:`.plants`

The seed decides what every client does and which fault comes when; which of the two comes first,
the machine decides.
"""

from .clients import CLIENTS, REQUEST_TIMEOUT, Lost, Totals, request
from .deployment import Deployment
from .faults import FAULTS
from .plants import PLANTS, planted
from .run import run

__all__ = [
    "CLIENTS",
    "FAULTS",
    "PLANTS",
    "REQUEST_TIMEOUT",
    "Deployment",
    "Lost",
    "Totals",
    "planted",
    "request",
    "run",
]
