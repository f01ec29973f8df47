"""The packages whose sounds make the corpus, and the recordings that stay out of it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Package:
    """A Debian package, what most of its sound is, and the share of its files that is used.

    kind: a path that says music is music in any package.
    test: its clips are never trained on; they tell how well tags are learned.
    commit: `name` is a repository OWNER/NAME of GitHub at this commit and no Debian package.
    under: only its files below this folder.
    without: and of those none below these.
    rendered: by this module, which has to run before.
    licence: of a repository; a Debian package says it itself.
    """

    name: str
    kind: str = "effects"  # or "speech", or "notes"
    keep: float = 1.0
    test: bool = False
    commit: str = ""
    under: str = ""
    without: tuple[str, ...] = ()
    rendered: str = ""
    licence: str = ""

    @property
    def stem(self) -> str:
        """Of the names of its files on disk."""
        return self.name.replace("/", "+")


HOUSEHOLD_PACKAGE = "amsehili/noise-of-life"  # recipes are chosen by the names of its folders


def _packages(names: str, **common: Any) -> Iterator[Package]:
    """Of names with spaces between."""
    return (Package(name, **common) for name in names.split())


def _repositories() -> Iterator[Package]:
    """Of repositories.csv, which also says why paths are left out."""
    with Path(__file__).with_name("repositories.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            known: dict[str, Any] = {name: text for name, text in row.items() if name != "why"}
            known["without"] = tuple(known["without"].split())
            yield Package(**known)


PACKAGES = (
    *_packages("gcompris-qt-data sonic-pi-samples lomiri-sounds hydrogen-drumkits"),
    Package("hydrogen-drumkits-effects", keep=0.3),
    *_packages(
        """
        megaglest-data widelands-data wesnoth-1.16-data colobot-common-sounds openttd-opensfx
        unknown-horizons lincity-ng-data freedroidrpg-data supertuxkart-data ufoai-sound
        planetblupi-common flare-game torcs-data pingus-data boswars-data glob2-data 0ad-data
        bucklespring-data searchandrescue-data simutrans-pak64 trigger-rally-data lmms-common
        extremetuxracer-data freecol gamine-data pysiogame flightgear-data-base naev-data
        redeclipse-data nexuiz-data openarena-data trackballs-data freeorion-data 7kaa-data
        gigalomania-data pekka-kana-2-data pink-pony-data dustracing2d-data openssn-data
        opencity-data micropolis-data caveexpress-data cataclysm-dda-data freedink-data
        endless-sky-data lugaru-data minetest-data minetest-mod-homedecor
        sound-theme-freedesktop ardentryst enigma-data scorched3d-data bzflag-data
        marsshooter-data yaru-theme-sound oxygen-sounds frozen-bubble-data tuxtype-data
        foobillardplus-data libreoffice-common scratch brainparty-data btanks-data ukui-media
        tuxmath-data gnome-audio mazeofgalious-data overgod-data crossfire-client
        lbreakout2-data bambam minetest-mod-mesecons minetest-mod-nether minetest-mod-xdecor
        minetest-mod-unified-inventory minetest-mod-lucky-block freetennis-common
        heroes-sound-effects tuxpaint-data freedroid-data powermanga-data atanks-data
        pinball-data freegish-data flobopuyo freeciv-data pathological madbomber-data
        epiphany-data laby open-invaders-data pokerth-data tuxfootball gemdropx monsterz-data
        circuslinux-data ri-li-data lgeneral-data spring-common whichwayisup orage-data
        bugsquish qt5-quick-demos briquolo-data kanagram khangman funnyboat basic256
        wx3.2-examples emacspeak sound-icons deepin-sound-theme chuck-data csoundqt-examples
        exadrums wordwarvi-sound performous solfege sumo-tools stormbaancoureur-data
        qtmultimedia5-examples antigravitaattori ksirk linphone-common jami-daemon
        gnustep-gui-common xboard moon-lander-data penguin-command vodovod go-for-it tkdesk
        afterstep-data xemacs21-basesupport seahorse-adventures alienblaster-data
        amphetamine-data bomberclone-data workrave-data ceferino-data cuyo-data tworld-data
        neverball-common
        """
    ),
    *_packages(
        """
        gl-117-data crrcsim-data csmash-data netpanzer-data warmux-data warzone2100-data
        plee-the-bear-data etw-data gnome-shell-pomodoro-data
        """,
        test=True,
    ),
    *_packages(
        """
        tuxpaint-stamps-default hedgewars-data klettres-data ktuberling-data fillets-ng-data
        fillets-ng-data-cs asterisk-core-sounds-en-g722 asterisk-core-sounds-es-g722
        asterisk-core-sounds-fr-g722 asterisk-core-sounds-it-g722 asterisk-core-sounds-ru-g722
        """,
        kind="speech",
    ),
    *_repositories(),
    Package("fluid-soundfont-gm", kind="notes", rendered="analysis.pretraining.notes"),
    Package("synthetic-voices", kind="speech", rendered="analysis.pretraining.voices"),
)

TEST_PACKAGES = frozenset(package.name for package in PACKAGES if package.test)
HELD_OUT_PACKAGES = TEST_PACKAGES | {HOUSEHOLD_PACKAGE}  # never trained on

# By the end of their paths: the clips of assets/examples, and files that hold the same recordings
# as those or as clips of ESC-50 (found by `python -m analysis.pretraining.copies`).
HELD_OUT = (
    "emacspeak/sounds/classic/alarm.wav",
    "sound/default/misc/victory.ogg",
    "battlemage/sounds/battlemage_hit3.wav",
    "battlemage/sounds/battlemage_hit4.wav",
    "opensfx.cat/8752859.wav",
    "simutrans/pak/sound/tree-cutting.wav",
    "sounds/fire_small.ogg",
    "Sounds/AMB_Intro_6.ogg",
    "Sounds/fire_loop.ogg",
    "snd/music/collective1.ogg",
    "LRBark_1_LA_cut.ogg",
    "LRRain_in_garden_01_LA_cut.ogg",
    "LRTrain_slowing_down_01_LA_cut.ogg",
    "LRApplauses_1_LA_cut.ogg",
    "LRHeart_beat_01_LA.ogg",
    "LRBuddhist_gong_05_LA.ogg",
    "samples/misc_crow.flac",
    "samples/misc_burp.flac",
    "samples/drum_snare_hard.flac",
    "samples/ambi_choir.flac",
    "samples/guit_em9.flac",
    "samples/perc_bell.flac",
    "samples/loop_amen_full.flac",
    "instruments/resource/trumpet.ogg",
    "stamps/animals/birds/rooster.ogg",
    "stamps/household/vacuum_cleaner.ogg",
    "en_US_f_Allison/demo-thanks.g722",
    "sounds/sounds_bumble_bee_02.ogg",
    "sounds/sounds_clock_tick.ogg",
    "environment/ambient/police_siren.ogg",
    "sounds/ambient/outside/crickets.ogg",
    "src/wav/osfx_56.wav",
    "commondata/sounds/air_attack3.wav",
    "sound/atlanteans/saw/sawing_00.ogg",
    "sound/atlanteans/saw/sawing_01.ogg",
    "Fire.ocg/Fire.ogg",
    *(
        f"Keyboard/keyboard-{number}.wav"
        for number in "007 015 017 018 019 024 043 047 058".split()
    ),
)
