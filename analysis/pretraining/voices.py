"""English words said by speech synthesisers: many words with labels, where recordings have few.

    apt-get install espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts
    python -m analysis.pretraining.voices

Every word of VOCABULARY in TAKES voices, each with a pitch and a tempo of its own, stored for
`analysis.pretraining.corpus` as packages/synthetic-voices.npz. No digit is among the words, nor a
word that
sounds like one: what tests on spoken digits is a set of words that pretraining never heard. Nor is
one among them that recordings say (`analysis.pretraining.words`).

eSpeak NG speaks with formants in any of a hundred timbres; flite and festival with the recorded
units, or with models, of six speakers.
"""

from __future__ import annotations

import subprocess
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import typer

from analysis.pretraining.corpus import store_clips
from analysis.pretraining.unpack import decode

PACKAGE = "synthetic-voices"
LICENCE = "GPL-3.0 (eSpeak NG), free licences of the voices of flite and festival"
TAKES = {"espeak": 20, "flite": 20, "festival": 6}  # of every word
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd",
           "en-029")  # fmt: skip
FLITE = {"kal16": 105, "awb": 115, "rms": 100, "slt": 170}  # mean pitch in Hz
FESTIVAL = ("kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts")
VOCABULARY = """
about above across after again air all alone also always am and animal another answer any apple arm
around ask autumn away baby back bad bag ball banana band bank bath beach bear beautiful because
been before begin behind believe bell below best better between big bird black blue board boat body
book both bottle box boy bread break bring brother brown build bus business but butter buy by cake
call camera can car carry catch chair change cheap check cheese child circle city class clean clear
climb clock cloud coat coffee cold color come cook corner country cover cow cup cut dance dark
daughter day deep dinner dirty doctor dog door down dream drink drive dry duck early earth easy eat
egg empty end engine enough evening every eye face fall family far farm fast father feel field fight
fill film find finger finish fire fish floor flower fly follow food foot forest forget forward
friend from fruit full funny game garden gate girl give glad glass go gold good grass great green
ground group grow guess hair half hand hard hat have head hear heart heavy help here high hill
history hold home hope horse hospital hot hour how hungry hurry ice idea if important inside island
job join jump just keep key kind king kitchen knife know lady lamp language large last late laugh
leave leg lemon letter light like line lion list listen little live long look lose loud love low
lunch machine make man many map market maybe meat medicine meet middle milk minute mirror money
monkey month moon morning mother mountain mouth move much music name near neck need never new news
next night no noise north nose nothing now number ocean office old only orange other outside over
page paint paper park party pass pencil people person phone picture piece pig pink place plane plant
play please pocket police poor potato present pretty price problem pull purple push put queen
question quick quiet rabbit radio rain read ready red remember rest rice right ring river road rock
roof room round run sad salt same sand save say school science sea second see sell send shadow sheep
ship shirt shoe shop short shout show sick side silver sing sister sit sky sleep slow small smile
snow soap soft some son song soon sound soup south space speak special spell spoon sport spring
square stairs stand star start station stay still stone stop store story street strong student study
sugar summer sun sure surprise sweet swim table take talk tall teach tell test thank that there
thick thin thing think this time tired today together tomorrow top touch town train travel tree
trouble true turn under understand until up use vegetable very village visit visual voice wait wake
walk wall want warm wash watch water way weather week west wet what wheel when where white why wide
wife wild wind window winter wish woman wonder wood word work world worry write wrong year yellow
yes young
""".split()


def say_all(word: str) -> list[tuple[str, str, np.ndarray]]:
    """(path, "speech", samples) of every take of a word by espeak and flite."""
    rng = np.random.default_rng(zlib.crc32(word.encode()))
    timbres = _timbres()
    takes = []
    with TemporaryDirectory() as folder:
        wav = Path(folder) / "said.wav"
        for take in range(TAKES["espeak"]):
            voice = f"{rng.choice(ACCENTS)}+{rng.choice(timbres)}"
            pitch, speed = str(rng.integers(20, 80)), str(rng.integers(110, 220))
            _run("espeak-ng", "-v", voice, "-p", pitch, "-s", speed, "-w", str(wav), word)
            takes.append((f"{word}/espeak-{take}.wav", "speech", decode("a.wav", wav.read_bytes())))
        for take in range(TAKES["flite"]):
            voice, hertz = list(FLITE.items())[take % len(FLITE)]
            settings = {
                "duration_stretch": rng.uniform(0.8, 1.5),
                "int_f0_target_mean": hertz * 2 ** rng.uniform(-0.3, 0.3),
                "int_f0_target_stddev": rng.uniform(8, 25),
            }
            options = [f"{name}={value:.3f}" for name, value in settings.items()]
            flags = [flag for option in options for flag in ("--setf", option)]
            _run("flite", "-voice", voice, *flags, "-t", word, "-o", str(wav))
            takes.append((f"{word}/flite-{take}.wav", "speech", decode("a.wav", wav.read_bytes())))
    return takes


def festival_says(voice: str) -> list[tuple[str, str, np.ndarray]]:
    """(path, "speech", samples) of every word by one voice of festival."""
    rng = np.random.default_rng(zlib.crc32(voice.encode()))
    count = TAKES["festival"] // len(FESTIVAL)
    with TemporaryDirectory() as folder:
        lines = [f"(voice_{voice})"]
        for word in VOCABULARY:
            for take in range(count):
                lines += [
                    f"(Parameter.set 'Duration_Stretch {rng.uniform(0.8, 1.5):.2f})",
                    f'(utt.save.wave (utt.synth (Utterance Text "{word}"))'
                    f' "{folder}/{word}-{take}.wav" \'riff)',
                ]
        script = Path(folder) / "script.scm"
        script.write_text("\n".join(lines))
        _run("festival", "-b", str(script))
        return [
            (
                f"{word}/{voice}-{take}.wav",
                "speech",
                decode("a.wav", (Path(folder) / f"{word}-{take}.wav").read_bytes()),
            )
            for word in VOCABULARY
            for take in range(count)
        ]


def _timbres() -> list[str]:
    """The variants that eSpeak NG has of any voice."""
    answer = subprocess.run(
        ["espeak-ng", "--voices=variant"], check=True, capture_output=True, text=True
    )
    return sorted(line.split()[4].split("/")[1] for line in answer.stdout.splitlines()[1:])


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def main(workers: int = 2) -> None:
    """Have all words said by all voices."""
    with ProcessPoolExecutor(workers) as pool:
        slow = [pool.submit(festival_says, voice) for voice in FESTIVAL]
        clips = [clip for said in pool.map(say_all, VOCABULARY) for clip in said]
        clips += [clip for job in slow for clip in job.result()]
    typer.echo(f"{len(VOCABULARY)} words: {store_clips(PACKAGE, clips, LICENCE)}")


if __name__ == "__main__":
    typer.run(main)
