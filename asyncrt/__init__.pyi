from asyncrt.errors import AsyncrtError as AsyncrtError
from asyncrt.errors import BadImage as BadImage
from asyncrt.errors import BadRequest as BadRequest
from asyncrt.errors import Conflict as Conflict
from asyncrt.errors import NoSuchObject as NoSuchObject
from asyncrt.errors import RegistryFailed as RegistryFailed
from asyncrt.errors import StartFailed as StartFailed
from asyncrt.errors import StorageFailed as StorageFailed
from asyncrt.errors import TimedOut as TimedOut
from asyncrt.errors import Unavailable as Unavailable
from asyncrt.model.container import Exit as Exit
from asyncrt.model.events import Event as Event
from asyncrt.model.limits import DeviceRate as DeviceRate
from asyncrt.model.limits import Limits as Limits
from asyncrt.model.options import Options as Options
from asyncrt.model.options import Volume as Volume
from asyncrt.model.protocol import FROM_NOW as FROM_NOW
from asyncrt.model.protocol import OLDEST as OLDEST
from asyncrt.model.stats import Pressure as Pressure
from asyncrt.sdk.container import Container as Container
from asyncrt.sdk.gather import Completed as Completed
from asyncrt.sdk.many import Failed as Failed
from asyncrt.sdk.many import Group as Group
from asyncrt.sdk.pipes import StdinClosed as StdinClosed
from asyncrt.sdk.process import Process as Process
from asyncrt.sdk.runtime import Runtime as Runtime
from asyncrt.sdk.runtime import connect as connect

__version__: str
_HOME: dict[str, str]
