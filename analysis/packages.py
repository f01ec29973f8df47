"""The packages whose sounds make the corpus, and the recordings that stay out of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A Debian package, what most of its sound is, and the share of its files that is used.

    kind: a path that says music is music in any package.
    test: its clips are never trained on; they tell how well tags are learned.
    choose: nor are these; recipes are chosen by the names of their folders.
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
    choose: bool = False
    commit: str = ""
    under: str = ""
    without: tuple[str, ...] = ()
    rendered: str = ""
    licence: str = ""

    @property
    def stem(self) -> str:
        """Of the names of its files on disk."""
        return self.name.replace("/", "+")


HOUSEHOLD_PACKAGE = "amsehili/noise-of-life"

PACKAGES = (
    Package("gcompris-qt-data"),
    Package("sonic-pi-samples"),
    Package("lomiri-sounds"),
    Package("hydrogen-drumkits"),
    Package("hydrogen-drumkits-effects", keep=0.3),
    Package("megaglest-data"),
    Package("widelands-data"),
    Package("wesnoth-1.16-data"),
    Package("colobot-common-sounds"),
    Package("openttd-opensfx"),
    Package("unknown-horizons"),
    Package("lincity-ng-data"),
    Package("freedroidrpg-data"),
    Package("supertuxkart-data"),
    Package("ufoai-sound"),
    Package("planetblupi-common"),
    Package("flare-game"),
    Package("torcs-data"),
    Package("pingus-data"),
    Package("boswars-data"),
    Package("glob2-data"),
    Package("0ad-data"),
    Package("bucklespring-data"),
    Package("searchandrescue-data"),
    Package("simutrans-pak64"),
    Package("trigger-rally-data"),
    Package("lmms-common"),
    Package("extremetuxracer-data"),
    Package("freecol"),
    Package("gamine-data"),
    Package("pysiogame"),
    Package("flightgear-data-base"),
    Package("naev-data"),
    Package("redeclipse-data"),
    Package("nexuiz-data"),
    Package("openarena-data"),
    Package("trackballs-data"),
    Package("freeorion-data"),
    Package("7kaa-data"),
    Package("gigalomania-data"),
    Package("pekka-kana-2-data"),
    Package("pink-pony-data"),
    Package("dustracing2d-data"),
    Package("openssn-data"),
    Package("opencity-data"),
    Package("micropolis-data"),
    Package("caveexpress-data"),
    Package("cataclysm-dda-data"),
    Package("freedink-data"),
    Package("endless-sky-data"),
    Package("lugaru-data"),
    Package("minetest-data"),
    Package("minetest-mod-homedecor"),
    Package("sound-theme-freedesktop"),
    Package("ardentryst"),
    Package("enigma-data"),
    Package("scorched3d-data"),
    Package("bzflag-data"),
    Package("marsshooter-data"),
    Package("yaru-theme-sound"),
    Package("oxygen-sounds"),
    Package("frozen-bubble-data"),
    Package("tuxtype-data"),
    Package("foobillardplus-data"),
    Package("libreoffice-common"),
    Package("scratch"),
    Package("brainparty-data"),
    Package("btanks-data"),
    Package("ukui-media"),
    Package("tuxmath-data"),
    Package("gnome-audio"),
    Package("mazeofgalious-data"),
    Package("overgod-data"),
    Package("crossfire-client"),
    Package("lbreakout2-data"),
    Package("bambam"),
    Package("minetest-mod-mesecons"),
    Package("minetest-mod-nether"),
    Package("minetest-mod-xdecor"),
    Package("minetest-mod-unified-inventory"),
    Package("minetest-mod-lucky-block"),
    Package("freetennis-common"),
    Package("heroes-sound-effects"),
    Package("tuxpaint-data"),
    Package("freedroid-data"),
    Package("powermanga-data"),
    Package("atanks-data"),
    Package("pinball-data"),
    Package("freegish-data"),
    Package("flobopuyo"),
    Package("freeciv-data"),
    Package("pathological"),
    Package("madbomber-data"),
    Package("epiphany-data"),
    Package("laby"),
    Package("open-invaders-data"),
    Package("pokerth-data"),
    Package("tuxfootball"),
    Package("gemdropx"),
    Package("monsterz-data"),
    Package("circuslinux-data"),
    Package("ri-li-data"),
    Package("lgeneral-data"),
    Package("spring-common"),
    Package("whichwayisup"),
    Package("orage-data"),
    Package("bugsquish"),
    Package("qt5-quick-demos"),
    Package("briquolo-data"),
    Package("kanagram"),
    Package("khangman"),
    Package("funnyboat"),
    Package("basic256"),
    Package("wx3.2-examples"),
    Package("emacspeak"),
    Package("sound-icons"),
    Package("deepin-sound-theme"),
    Package("chuck-data"),
    Package("csoundqt-examples"),
    Package("exadrums"),
    Package("wordwarvi-sound"),
    Package("performous"),
    Package("solfege"),
    Package("sumo-tools"),
    Package("stormbaancoureur-data"),
    Package("qtmultimedia5-examples"),
    Package("antigravitaattori"),
    Package("ksirk"),
    Package("linphone-common"),
    Package("jami-daemon"),
    Package("gnustep-gui-common"),
    Package("xboard"),
    Package("moon-lander-data"),
    Package("penguin-command"),
    Package("vodovod"),
    Package("go-for-it"),
    Package("tkdesk"),
    Package("afterstep-data"),
    Package("xemacs21-basesupport"),
    Package("seahorse-adventures"),
    Package("alienblaster-data"),
    Package("amphetamine-data"),
    Package("bomberclone-data"),
    Package("workrave-data"),
    Package("ceferino-data"),
    Package("cuyo-data"),
    Package("tworld-data"),
    Package("neverball-common"),
    Package("gl-117-data", test=True),
    Package("crrcsim-data", test=True),
    Package("csmash-data", test=True),
    Package("netpanzer-data", test=True),
    Package("warmux-data", test=True),
    Package("warzone2100-data", test=True),
    Package("plee-the-bear-data", test=True),
    Package("etw-data", test=True),
    Package("gnome-shell-pomodoro-data", test=True),
    Package("tuxpaint-stamps-default", kind="speech"),
    Package("hedgewars-data", kind="speech"),
    Package("klettres-data", kind="speech"),
    Package("ktuberling-data", kind="speech"),
    Package("fillets-ng-data", kind="speech"),
    Package("fillets-ng-data-cs", kind="speech"),
    Package("asterisk-core-sounds-en-g722", kind="speech"),
    Package("asterisk-core-sounds-es-g722", kind="speech"),
    Package("asterisk-core-sounds-fr-g722", kind="speech"),
    Package("asterisk-core-sounds-it-g722", kind="speech"),
    Package("asterisk-core-sounds-ru-g722", kind="speech"),
    Package(
        "abdulkaderghandoura/arabic-speech-commands-dataset",
        kind="speech",
        commit="72f3438212ff6cf8fbe5ae8068361840646429bd",
        under="dataset/",
        licence="CC-BY-4.0",
    ),
    Package(
        "Picovoice/wake-word-benchmark",
        kind="speech",
        commit="84919190fb1891bf0936dcb577d9268e467f876f",
        under="audio/",
        licence="Apache-2.0",
    ),
    Package(
        "Picovoice/speech-to-intent-benchmark",
        kind="speech",
        commit="47b1ca63afe4f08cb83e1f70fec16764879bd130",
        under="data/speech/clean/",
        licence="Apache-2.0",
    ),
    Package(
        "zhongyuchen/DSPSpeech-20",
        kind="speech",
        commit="8165959c2567190524898e8187021c8ffb19b262",
        under="speech_data/",
        licence="MIT",
    ),
    Package(
        "gveres/donateacry-corpus",
        commit="6baf5aca0460964ad072653585837f968a87c2af",
        under="donateacry_corpus_cleaned_and_updated_data/",
        licence="ODbL-1.0",
    ),
    Package(
        HOUSEHOLD_PACKAGE,
        choose=True,
        commit="a8fb56f44705515f408e47bccc340637b118916e",
        without=("BabyCry/", "Sneeze/"),  # in which `--check` finds clips of ESC-10
        licence="CC0-1.0 and other Creative Commons licences of Freesound, not named by file",
    ),
    Package(
        "rafaelmardojai/blanket",
        commit="8b1c27aedde1d6ad8053ce5ad351a2924bcdb766",
        under="data/resources/sounds/",
        licence="CC0-1.0 CC-BY-3.0 CC-BY-SA-3.0 public-domain",
    ),
    Package("fluid-soundfont-gm", kind="notes", rendered="analysis.notes"),
    Package("synthetic-voices", kind="speech", rendered="analysis.voices"),
)

TEST_PACKAGES = frozenset(package.name for package in PACKAGES if package.test)
HELD_OUT_PACKAGES = TEST_PACKAGES | {package.name for package in PACKAGES if package.choose}

# By the end of their paths: the clips of assets/examples, and files that hold the same recordings
# as those or as clips of ESC-10 (found by `python -m analysis.corpus --check`).
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
)
