"""The methods. Importing this package registers all of them by name in `registry.METHODS`."""

from adakron_jax.methods.adakron import AdaKron
from adakron_jax.methods.adamix import AdaMix, MAdaKron
from adakron_jax.methods.bottleneck import Houlsby, Pfeiffer
from adakron_jax.methods.compacter import Compacter, CompacterPlusPlus
from adakron_jax.methods.loreft import LoReFT
from adakron_jax.methods.prefix import Prefix
from adakron_jax.methods.scaling import IA3, Hadamard
from adakron_jax.methods.selective import BitFit, Full, Head, LNTuning
from adakron_jax.methods.unipelt import UniPELT
from adakron_jax.methods.updates.c3a import C3A
from adakron_jax.methods.updates.decomposed import DoRA, PiSSA
from adakron_jax.methods.updates.fourierft import FourierFT
from adakron_jax.methods.updates.hira import HiRA
from adakron_jax.methods.updates.krona import KronA
from adakron_jax.methods.updates.lora import LoRA
from adakron_jax.methods.updates.miss import MiSS
from adakron_jax.methods.updates.oft import OFT
from adakron_jax.methods.updates.projections import RandLoRA, VeRA
from adakron_jax.methods.updates.vblora import VBLoRA

__all__ = [
    "C3A",
    "IA3",
    "OFT",
    "AdaKron",
    "AdaMix",
    "BitFit",
    "Compacter",
    "CompacterPlusPlus",
    "DoRA",
    "FourierFT",
    "Full",
    "Hadamard",
    "Head",
    "HiRA",
    "Houlsby",
    "KronA",
    "LNTuning",
    "LoRA",
    "LoReFT",
    "MAdaKron",
    "MiSS",
    "Pfeiffer",
    "PiSSA",
    "Prefix",
    "RandLoRA",
    "UniPELT",
    "VBLoRA",
    "VeRA",
]
