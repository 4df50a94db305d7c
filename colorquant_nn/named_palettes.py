"""Palettes by name: historic hardware, e-paper as measured, and customary steps. Data, no more."""

from typing import NamedTuple

__all__ = ["NAMED_PALETTES", "NamedPalette"]


class NamedPalette(NamedTuple):
    """The colours of a device, in its own order."""

    colors: str
    """Hexadecimal, separated by spaces."""
    source: str
    """Where the values come from."""
    device: str = ""
    """The same colours as the device wants them, where these are measured: what the eye sees."""


def _cube(red: str, green: str, blue: str) -> str:
    """All combinations of the levels, blue fastest."""
    return " ".join(r + g + b for r in red.split() for g in green.split() for b in blue.split())


def _ramp(levels: int) -> str:
    """Equal steps of sRGB from black to white."""
    return " ".join(f"{round(255 * level / (levels - 1)):02x}" * 3 for level in range(levels))


def _ega() -> str:
    # Bits 5 to 3 are the low, 2 to 0 the high bits of red, green and blue: rgbRGB.
    def level(number: int, channel: int) -> int:
        return 0xAA * (number >> channel & 1) + 0x55 * (number >> channel + 3 & 1)

    return " ".join(
        "".join(f"{level(number, channel):02x}" for channel in (2, 1, 0)) for number in range(64)
    )


_WEB_SAFE_LEVELS = "00 33 66 99 cc ff"

NAMED_PALETTES: dict[str, NamedPalette] = {
    "gameboy": NamedPalette(
        "0f380f 306230 8bac0f 9bbc0f",
        "four shades of the DMG-01 screen; a reflective LCD has no RGB values, these are the "
        "customary ones: https://en.wikipedia.org/wiki/List_of_video_game_console_palettes",
    ),
    "cga": NamedPalette(
        "000000 0000aa 00aa00 00aaaa aa0000 aa00aa aa5500 aaaaaa "
        "555555 5555ff 55ff55 55ffff ff5555 ff55ff ffff55 ffffff",
        "16 RGBI colours, dark yellow shown as brown by the IBM 5153 monitor: IBM Color/Graphics "
        "Monitor Adapter (1984); https://en.wikipedia.org/wiki/Color_Graphics_Adapter",
    ),
    "cga-mode4-green": NamedPalette(
        "000000 55ff55 ff5555 ffff55", "320 x 200, palette 0, high intensity: as cga"
    ),
    "cga-mode4-cyan": NamedPalette(
        "000000 55ffff ff55ff ffffff", "320 x 200, palette 1, high intensity: as cga"
    ),
    "ega": NamedPalette(
        _ega(),
        "64 colours, two bits a channel, numbered rgbRGB: IBM Enhanced Graphics Adapter (1984); "
        "https://en.wikipedia.org/wiki/Enhanced_Graphics_Adapter",
    ),
    "nes": NamedPalette(
        "545454 001e74 081090 300088 440064 5c0030 540400 3c1800 202a00 083a00 004000 003c00 "
        "00323c 000000 989698 084cc4 3032ec 5c1ee4 8814b0 a01464 982220 783c00 545a00 287200 "
        "087c00 007628 006678 eceeec 4c9aec 787cec b062ec e454ec ec58b4 ec6a64 d48820 a0aa00 "
        "74c400 4cd020 38cc6c 38b4cc 3c3c3c a8ccec bcbcec d4b2ec ecaeec ecaed4 ecb4b0 e4c490 "
        "ccd278 b4de78 a8e290 98e2b4 a0d6e4 a0a2a0",
        "the 54 distinct colours of the 2C02 picture processor, decoded from NTSC: "
        "https://www.nesdev.org/wiki/PPU_palettes",
    ),
    "c64": NamedPalette(
        "000000 ffffff 813338 75cec8 8e3c97 56ac4d 2e2c9b edf171 "
        "8e5029 553800 c46c71 4a4a4a 7b7b7b a9ff9f 706deb b2b2b2",
        "VIC-II, PAL, by the Colodore model (Philip Timmermann, 2017): "
        "https://www.pepto.de/projects/colorvic/",
    ),
    "c64-pepto": NamedPalette(
        "000000 ffffff 68372b 70a4b2 6f3d86 588d43 352879 b8c76f "
        "6f4f25 433900 9a6759 444444 6c6c6c 9ad284 6c5eb5 959595",
        "VIC-II, PAL, by the same author's first model (2001): "
        "https://www.pepto.de/projects/colorvic/2001/",
    ),
    "zx-spectrum": NamedPalette(
        "000000 0000d8 d80000 d800d8 00d800 00d8d8 d8d800 d8d8d8 "
        "0000ff ff0000 ff00ff 00ff00 00ffff ffff00 ffffff",
        "15 colours, the dim ones at 85 % of the voltage: "
        "https://en.wikipedia.org/wiki/ZX_Spectrum_graphic_modes",
    ),
    "pico-8": NamedPalette(
        "000000 1d2b53 7e2553 008751 ab5236 5f574f c2c3c7 fff1e8 "
        "ff004d ffa300 ffec27 00e436 29adff 83769c ff77a8 ffccaa",
        "the 16 standard colours: https://www.lexaloffle.com/pico-8.php?page=faq",
    ),
    "web-safe": NamedPalette(
        _cube(_WEB_SAFE_LEVELS, _WEB_SAFE_LEVELS, _WEB_SAFE_LEVELS),
        "216 colours, six levels a channel: https://en.wikipedia.org/wiki/Web_colors",
    ),
    "spectra6": NamedPalette(
        "1f1829 a8b4b6 b4ad00 711813 24468b 32543c",
        "E Ink Spectra 6, 7.3 inches: black, white, yellow, red, blue, green, photographed in raw "
        "with a linear tone curve under light of 6500 K beside white paper (OpenDisplay, 2026): "
        "https://github.com/OpenDisplay/epaper-dithering/blob/"
        "20ecb445f656b719d2d8e9e04c0ba9445698737e/packages/rust/core/src/measured_palettes.rs; "
        "the device's as in https://github.com/waveshareteam/e-Paper/blob/master/"
        "RaspberryPi_JetsonNano/python/lib/waveshare_epd/epd7in3e.py",
        "000000 ffffff ffff00 ff0000 0000ff 00ff00",
    ),
    "acep7": NamedPalette(
        "393039 ffffff 3a5b46 3d3b5e 9c484b d0be47 b16a49",
        "E Ink ACeP, 5.7 inches: black, white, green, blue, red, yellow, orange, photographed in "
        "white light, relative to the panel's white (Pimoroni, 2020; how: "
        "https://github.com/pimoroni/inky/issues/89): SATURATED_PALETTE of "
        "https://github.com/pimoroni/inky/blob/main/inky/inky_uc8159.py; the device's as in "
        "https://github.com/waveshareteam/e-Paper/blob/master/"
        "RaspberryPi_JetsonNano/python/lib/waveshare_epd/epd7in3f.py",
        "000000 ffffff 00ff00 0000ff ff0000 ffff00 ff8000",
    ),
    "epaper-bwry": NamedPalette(
        "0a070e adb2ae ac8000 55180e",
        "e-paper of black, white, yellow, red, 3.97 inches, photographed in raw beside white paper "
        "(OpenDisplay, 2026): as spectra6; the device's as in https://github.com/waveshareteam/"
        "e-Paper/blob/master/RaspberryPi_JetsonNano/python/lib/waveshare_epd/epd3in0g.py",
        "000000 ffffff ffff00 ff0000",
    ),
    "epaper-grey-4": NamedPalette(
        "3b3b3b 5b5b5b 7c7c7c a0a0a0",
        "e-paper of four greys, 2.9 inches, GDEY029T94 (Good Display, 2021): by its data sheet, "
        "typically, white reflects 35 %, eight times as much as black, measured by a "
        "spectrophotometer under light from 45 degrees, and greys are even in L*: "
        "https://www.laskakit.cz/user/related_files/gdey029t94.pdf; what the device wants are the "
        "numbers of its greys",
        _ramp(4),
    ),
    "epaper-grey-16": NamedPalette(
        "2f2f2f 373737 3f3f3f 474747 505050 585858 616161 6a6a6a "
        "737373 7c7c7c 858585 8e8e8e 989898 a1a1a1 ababab b5b5b5",
        "e-paper of 16 greys, 10.8 inches, ES108FC1 (E Ink, 2017): by its data sheet, typically, "
        "white reflects 46 %, sixteen times as much as black, and greys are even in L*: "
        "ES108FC1_Ver0.1.pdf of https://github.com/richild999/ES108FC1; what the device wants are "
        "the numbers of its greys",
        _ramp(16),
    ),
    "grey-2": NamedPalette(_ramp(2), "equal steps of sRGB"),
    "grey-4": NamedPalette(_ramp(4), "equal steps of sRGB"),
    "grey-16": NamedPalette(_ramp(16), "equal steps of sRGB"),
    "grey-256": NamedPalette(_ramp(256), "equal steps of sRGB"),
}
