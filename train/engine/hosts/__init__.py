"""One run trained by the processes of several hosts; the only package that deals with more than one process.

Every host runs the same program on the same plan, fills its own rows of each batch, and keeps the whole state; host 0
alone writes and prints. Hosts communicate in two ways: by collectives of their devices, and through a key-value store
that host 0 keeps. In a single process, everything here does what plain JAX would do.
"""

from train.engine.hosts.agreement import GO as GO
from train.engine.hosts.agreement import SAVE as SAVE
from train.engine.hosts.agreement import STOP as STOP
from train.engine.hosts.agreement import Votes as Votes
from train.engine.hosts.agreement import all_wish as all_wish
from train.engine.hosts.agreement import check_same as check_same
from train.engine.hosts.agreement import check_shared as check_shared
from train.engine.hosts.arrays import fetch as fetch
from train.engine.hosts.arrays import is_writer as is_writer
from train.engine.hosts.arrays import on_all_devices as on_all_devices
from train.engine.hosts.arrays import put as put
from train.engine.hosts.arrays import put_rows as put_rows
from train.engine.hosts.arrays import rows_here as rows_here
from train.engine.hosts.membership import carry_out as carry_out
