"""Makes every process believe in a processor without bfloat16, as in most laptops."""

from captionkit.system import hardware

hardware.has_bf16 = lambda cpuinfo: False
