"""The phrase tables of the soundscape's captions, one for each language.

A noun is `CODE text` or `CODE singular|plural`, an adjective is listed with its forms, both as
`soundscape_grammar` reads them. Frames are chosen so that no verb has to agree with the events.
"""

import dataclasses
from collections.abc import Callable

from supclap_jax.data.soundscape_grammar import (
    Noun,
    chinese,
    dutch,
    english,
    french_article,
    german,
    iberian_article,
    japanese,
    romance,
)


@dataclasses.dataclass(frozen=True)
class Language:
    """The phrase tables of one language.

    Attributes:
        phrase: `(noun, quantity, adjectives) -> phrase`; quantity is a word for two or more, or ""
            for one event or a sustained one.
        numerals: words for one to four; the first is "" where an article says it.
        several: a word for three or four.
        pairs, triples: ways to put two or three phrases in order.
        frames: five sentences around `{events}`.
        background_frames: five sentences around `{events}` and `{background}`.
        adjectives: attribute value -> synonyms.
        nouns: kind -> synonyms separated by ";".
    """

    phrase: Callable[[Noun, str, list[str]], str]
    numerals: tuple[str, str, str, str]
    several: str
    pairs: tuple[str, ...]
    triples: tuple[str, ...]
    frames: tuple[str, ...]
    background_frames: tuple[str, ...]
    adjectives: dict[str, tuple[str, ...]]
    nouns: dict[str, str]


PHRASES: dict[str, Language] = {
    "eng_Latn": Language(
        phrase=english,
        numerals=("", "two", "three", "four"),
        several="several",
        pairs=(
            "{} followed by {}",
            "{} and then {}",
            "{}, then {}",
            "first {}, then {}",
            "{} and afterwards {}",
        ),
        triples=(
            "{} followed by {} and then {}",
            "{}, then {} and finally {}",
            "first {}, then {}, then {}",
            "{}, next {} and at the end {}",
        ),
        frames=(
            "{events}.",
            "You can hear {events}.",
            "The recording contains {events}.",
            "This is the sound of {events}.",
            "A microphone picks up {events}.",
        ),
        background_frames=(
            "{events}, with {background} in the background.",
            "You can hear {events} over the sound of {background}.",
            "With {background} in the background, you can hear {events}.",
            "The recording contains {events} and, all the while, {background}.",
            "Throughout the recording there is the sound of {background}; one also hears {events}.",
        ),
        adjectives={
            "loud": ("loud", "powerful"),
            "quiet": ("quiet", "faint"),
            "low": ("low-pitched", "deep"),
            "high": ("high-pitched", "shrill"),
            "fast": ("fast", "rapid"),
            "slow": ("slow", "leisurely"),
        },
        nouns={
            "dog bark": "c dog bark|dog barks; c bark of a dog|barks of a dog",
            "rain": "c0 rain; c0 rainfall",
            "footsteps": "cp footsteps; cp steps",
            "car horn": "c car horn honk|car horn honks; c honk of a car|honks of a car",
            "engine": "c engine; c running motor",
            "birdsong": "c0 birdsong; c0 bird twittering",
            "church bell": "c church bell toll|church bell tolls; "
            "c stroke of a church bell|strokes of a church bell",
            "wind": "c0 wind noise; c0 howling wind",
            "door knock": "c knock on a door|knocks on a door; c door knock|door knocks",
            "siren": "c siren; c wailing siren",
            "water drop": "c water drop|water drops; c drip of water|drips of water",
            "sea waves": "cp sea waves; cp waves on a shore",
            "cat meow": "c cat meow|cat meows; c meow of a cat|meows of a cat",
            "ticking clock": "c ticking clock; c0 clock ticking",
            "hand clap": "c hand clap|hand claps; c clap of hands|claps of hands",
            "crickets": "c0 cricket chirping; cp chirping crickets",
            "whistle": "c whistle blast|whistle blasts; c blow of a whistle|blows of a whistle",
            "ringing telephone": "c ringing telephone; c ringing phone",
            "owl hoot": "c owl hoot|owl hoots; c hoot of an owl|hoots of an owl",
            "helicopter": "c helicopter rotor; c0 helicopter noise",
            "drum beat": "c drum beat|drum beats; c beat of a drum|beats of a drum",
            "crackling fire": "c crackling fire; c0 fire crackling",
            "frog croak": "c frog croak|frog croaks; c croak of a frog|croaks of a frog",
            "sawing": "c0 sawing; c0 sawing of wood",
            "electronic beep": "c electronic beep|electronic beeps; c beep|beeps",
            "buzzing bee": "c buzzing bee; c0 bee buzzing",
        },
    ),
    "fra_Latn": Language(
        phrase=romance("et", french_article),
        numerals=("", "deux", "trois", "quatre"),
        several="plusieurs",
        pairs=("{}, puis {}", "{} et ensuite {}", "d'abord {}, puis {}", "{} et après cela {}"),
        triples=(
            "{}, puis {} et enfin {}",
            "d'abord {}, ensuite {} et pour finir {}",
            "{}, ensuite {}, puis {}",
        ),
        frames=(
            "{events}.",
            "On entend {events}.",
            "L'enregistrement contient {events}.",
            "Le micro capte {events}.",
            "Dans cet enregistrement, il y a {events}.",
        ),
        background_frames=(
            "{events}, avec {background} en fond sonore.",
            "On entend {events} et, à l'arrière-plan, {background}.",
            "Pendant qu'on entend {background} en continu, le micro capte {events}.",
            "L'enregistrement contient {events}, avec {background} en même temps.",
            "Il y a sans cesse {background} ; par-dessus, on distingue {events}.",
        ),
        adjectives={
            "loud": ("fort forte forts fortes", "puissant puissante puissants puissantes"),
            "quiet": ("faible faible faibles faibles", "léger légère légers légères"),
            "low": ("grave grave graves graves", "profond profonde profonds profondes"),
            "high": ("aigu aiguë aigus aiguës",),
            "fast": ("rapide rapide rapides rapides",),
            "slow": ("lent lente lents lentes",),
        },
        nouns={
            "dog bark": "m aboiement|aboiements; m aboiement * de chien|aboiements * de chien",
            "rain": "f0 pluie; m bruit * de pluie",
            "footsteps": "mp pas; m bruit * de pas",
            "car horn": "m coup * de klaxon|coups * de klaxon; "
            "m coup * d'avertisseur|coups * d'avertisseur",
            "engine": "m moteur; m bruit * de moteur",
            "birdsong": "m chant * d'oiseau; m gazouillis * d'oiseau",
            "church bell": "m coup * de cloche|coups * de cloche; "
            "m coup * de cloche d'église|coups * de cloche d'église",
            "wind": "m0 vent; m bruit * de vent",
            "door knock": "m coup * à la porte|coups * à la porte; "
            "m coup * frappé à la porte|coups * frappés à la porte",
            "siren": "f sirène; m son * de sirène",
            "water drop": "m bruit * de goutte d'eau|bruits * de gouttes d'eau",
            "sea waves": "fp vagues; m bruit * de vagues",
            "cat meow": "m miaulement|miaulements; m miaulement * de chat|miaulements * de chat",
            "ticking clock": "m tic-tac * d'horloge; m tic-tac * de pendule",
            "hand clap": "m claquement * de mains|claquements * de mains; "
            "m battement * de mains|battements * de mains",
            "crickets": "m chant * de grillons; f stridulation * de grillons",
            "whistle": "m coup * de sifflet|coups * de sifflet",
            "ringing telephone": "f sonnerie * de téléphone",
            "owl hoot": "m hululement * de chouette|hululements * de chouette; "
            "m cri * de hibou|cris * de hibou",
            "helicopter": "m rotor * d'hélicoptère; m bruit * d'hélicoptère",
            "drum beat": "m coup * de tambour|coups * de tambour; "
            "m battement * de tambour|battements * de tambour",
            "crackling fire": "m crépitement * de feu; m crépitement * de flammes",
            "frog croak": "m coassement|coassements; "
            "m coassement * de grenouille|coassements * de grenouille",
            "sawing": "m bruit * de scie; m sciage * de bois",
            "electronic beep": "m bip|bips; m bip électronique|bips électroniques",
            "buzzing bee": "m bourdonnement * d'abeille",
        },
    ),
    "deu_Latn": Language(
        phrase=german,
        numerals=("", "zwei", "drei", "vier"),
        several="mehrere",
        pairs=(
            "{}, dann {}",
            "{} und danach {}",
            "{} und anschließend {}",
            "zuerst {}, dann {}",
        ),
        triples=(
            "{}, dann {} und schließlich {}",
            "zuerst {}, danach {} und am Ende {}",
            "{}, danach {} und anschließend {}",
        ),
        frames=(
            "Man hört {events}.",
            "Die Aufnahme enthält {events}.",
            "In dieser Aufnahme gibt es {events}.",
            "Wir hören {events}.",
            "Zu hören gibt es {events}.",
        ),
        background_frames=(
            "Man hört {events}, im Hintergrund {background}.",
            "Im Hintergrund hört man {background}, im Vordergrund {events}.",
            "Die Aufnahme enthält {events} und gleichzeitig {background}.",
            "Während man durchgehend {background} hört, gibt es {events}.",
            "Es gibt {events}, dazu die ganze Zeit {background}.",
        ),
        adjectives={
            "loud": ("laut", "kräftig"),
            "quiet": ("leis", "schwach"),
            "low": ("tief",),
            "high": ("hoh", "hell"),
            "fast": ("schnell", "rasch"),
            "slow": ("langsam", "gemächlich"),
        },
        nouns={
            "dog bark": "m Belllaut eines Hundes|Belllaute eines Hundes",
            "rain": "m0 Regen; n0 Regenrauschen",
            "footsteps": "mp Schritte",
            "car horn": "m Hupton|Huptöne; n Hupsignal eines Autos|Hupsignale eines Autos",
            "engine": "m Motor; n Motorengeräusch",
            "birdsong": "m0 Vogelgesang; n0 Vogelgezwitscher",
            "church bell": "m Glockenschlag|Glockenschläge; "
            "m Schlag einer Kirchenglocke|Schläge einer Kirchenglocke",
            "wind": "n0 Heulen des Windes; n0 Rauschen des Windes",
            "door knock": "n Klopfgeräusch an der Tür|Klopfgeräusche an der Tür; "
            "n Klopfzeichen an einer Tür|Klopfzeichen an einer Tür",
            "siren": "f Sirene; n0 Sirenengeheul",
            "water drop": "m Wassertropfen|Wassertropfen; n Tropfgeräusch|Tropfgeräusche",
            "sea waves": "fp Meereswellen; n0 Rauschen von Wellen",
            "cat meow": "m Miaulaut einer Katze|Miaulaute einer Katze; m Katzenruf|Katzenrufe",
            "ticking clock": "n0 Ticken einer Uhr; n0 Uhrenticken",
            "hand clap": "m Klatscher|Klatscher; "
            "m Klatscher mit den Händen|Klatscher mit den Händen",
            "crickets": "n0 Grillenzirpen; n0 Zirpen von Grillen",
            "whistle": "m Pfiff|Pfiffe; m Pfiff mit der Trillerpfeife|Pfiffe mit der Trillerpfeife",
            "ringing telephone": "n0 Telefonklingeln; n0 Klingeln eines Telefons",
            "owl hoot": "m Eulenruf|Eulenrufe; m Ruf einer Eule|Rufe einer Eule",
            "helicopter": "m Hubschrauberrotor; n0 Knattern eines Hubschraubers",
            "drum beat": "m Trommelschlag|Trommelschläge; "
            "m Schlag auf eine Trommel|Schläge auf eine Trommel",
            "crackling fire": "n0 Knistern eines Feuers; n0 Knistern von Flammen",
            "frog croak": "m Quaklaut eines Frosches|Quaklaute eines Frosches; "
            "m Froschruf|Froschrufe",
            "sawing": "n0 Sägen; n Sägegeräusch",
            "electronic beep": "m Piepton|Pieptöne; m Signalton|Signaltöne",
            "buzzing bee": "n0 Bienensummen; n0 Summen einer Biene",
        },
    ),
    "spa_Latn": Language(
        phrase=romance("y", iberian_article),
        numerals=("", "dos", "tres", "cuatro"),
        several="varios",
        pairs=(
            "{}, luego {}",
            "{} y después {}",
            "primero {} y luego {}",
            "{} y a continuación {}",
        ),
        triples=(
            "{}, luego {} y finalmente {}",
            "primero {}, después {} y por último {}",
            "{}, después {} y a continuación {}",
        ),
        frames=(
            "{events}.",
            "Oímos {events}.",
            "La grabación contiene {events}.",
            "En esta grabación hay {events}.",
            "El micrófono capta {events}.",
        ),
        background_frames=(
            "{events}, con {background} de fondo.",
            "Con {background} de fondo, oímos {events}.",
            "La grabación contiene {events} y, al mismo tiempo, {background}.",
            "Mientras al fondo hay {background}, el micrófono capta {events}.",
            "Hay {events} y, durante toda la grabación, {background}.",
        ),
        adjectives={
            "loud": ("fuerte fuerte fuertes fuertes", "potente potente potentes potentes"),
            "quiet": ("suave suave suaves suaves", "débil débil débiles débiles"),
            "low": ("grave grave graves graves",),
            "high": ("agudo aguda agudos agudas",),
            "fast": ("rápido rápida rápidos rápidas", "veloz veloz veloces veloces"),
            "slow": ("lento lenta lentos lentas", "pausado pausada pausados pausadas"),
        },
        nouns={
            "dog bark": "m ladrido|ladridos; m ladrido * de perro|ladridos * de perro",
            "rain": "f0 lluvia; m sonido * de lluvia",
            "footsteps": "mp pasos; m ruido * de pasos",
            "car horn": "m toque * de claxon|toques * de claxon; "
            "m toque * de bocina|toques * de bocina",
            "engine": "m motor; m ruido * de motor",
            "birdsong": "m canto * de pájaro; m trino * de pájaro",
            "church bell": "m toque * de campana|toques * de campana; "
            "m toque * de campana de iglesia|toques * de campana de iglesia",
            "wind": "m ruido * de viento; m sonido * de viento",
            "door knock": "m golpe * en la puerta|golpes * en la puerta; "
            "m golpe * en una puerta|golpes * en una puerta",
            "siren": "f sirena; m sonido * de sirena",
            "water drop": "m sonido * de gota de agua|sonidos * de gotas de agua",
            "sea waves": "fp olas; m sonido * de olas",
            "cat meow": "m maullido|maullidos; m maullido * de gato|maullidos * de gato",
            "ticking clock": "m tictac * de reloj",
            "hand clap": "m aplauso|aplausos; m golpe * de palmas|golpes * de palmas",
            "crickets": "m canto * de grillos; m sonido * de grillos",
            "whistle": "m toque * de silbato|toques * de silbato; "
            "m pitido * de silbato|pitidos * de silbato",
            "ringing telephone": "m timbre * de teléfono",
            "owl hoot": "m ululato * de búho|ululatos * de búho; "
            "m canto * de búho|cantos * de búho",
            "helicopter": "m rotor * de helicóptero; m ruido * de helicóptero",
            "drum beat": "m golpe * de tambor|golpes * de tambor; "
            "m toque * de tambor|toques * de tambor",
            "crackling fire": "m crepitar * de fuego; m chisporroteo * de fuego",
            "frog croak": "m canto * de rana|cantos * de rana",
            "sawing": "m ruido * de sierra; m ruido * de serrucho",
            "electronic beep": "m pitido electrónico|pitidos electrónicos; m bip|bips",
            "buzzing bee": "m zumbido * de abeja",
        },
    ),
    "nld_Latn": Language(
        phrase=dutch,
        numerals=("", "twee", "drie", "vier"),
        several="meerdere",
        pairs=("{}, dan {}", "{} en daarna {}", "eerst {}, dan {}", "{} en vervolgens {}"),
        triples=(
            "{}, dan {} en ten slotte {}",
            "eerst {}, daarna {} en aan het eind {}",
            "{}, daarna {} en vervolgens {}",
        ),
        frames=(
            "{events}.",
            "Je hoort {events}.",
            "De opname bevat {events}.",
            "De microfoon vangt het volgende op: {events}.",
            "In deze opname hoor je {events}.",
        ),
        background_frames=(
            "{events}, met {background} op de achtergrond.",
            "Je hoort {events} en tegelijkertijd {background}.",
            "Met {background} op de achtergrond hoor je {events}.",
            "De opname bevat {events}, met daaronder {background}.",
            "Terwijl je de hele tijd {background} hoort, vangt de microfoon dit op: {events}.",
        ),
        adjectives={
            "loud": ("luid luide", "hard harde"),
            "quiet": ("zacht zachte", "zwak zwakke"),
            "low": ("laag lage", "diep diepe"),
            "high": ("hoog hoge", "schel schelle"),
            "fast": ("snel snelle", "vlug vlugge"),
            "slow": ("langzaam langzame", "traag trage"),
        },
        nouns={
            "dog bark": "c blaf|blaffen; c blaf van een hond|blaffen van een hond",
            "rain": "c0 regen; n0 geruis van regen",
            "footsteps": "cp voetstappen; cp stappen",
            "car horn": "c claxonstoot|claxonstoten; "
            "n toetergeluid van een auto|toetergeluiden van een auto",
            "engine": "c motor; n motorgeluid",
            "birdsong": "n0 vogelgezang; n0 gefluit van een vogel",
            "church bell": "c klokslag|klokslagen; c slag van een kerkklok|slagen van een kerkklok",
            "wind": "n windgeluid; n0 geruis van de wind",
            "door knock": "c klop op de deur|kloppen op de deur; n klopgeluid op een deur|"
            "klopgeluiden op een deur",
            "siren": "c sirene; n sirenegeluid",
            "water drop": "c waterdruppel|waterdruppels; n druppelgeluid|druppelgeluiden",
            "sea waves": "cp zeegolven; cp golven van de zee",
            "cat meow": "n miauwgeluid|miauwgeluiden; c miauw van een kat|miauws van een kat",
            "ticking clock": "c tikkende klok; n0 getik van een klok",
            "hand clap": "c handklap|handklappen; c klap in de handen|klappen in de handen",
            "crickets": "n krekelgeluid; n0 getjirp van krekels",
            "whistle": "n fluitsignaal|fluitsignalen; c stoot op een fluitje|stoten op een fluitje",
            "ringing telephone": "c rinkelende telefoon; n0 gerinkel van een telefoon",
            "owl hoot": "n uilengeluid|uilengeluiden; c roep van een uil|roepen van een uil",
            "helicopter": "c helikopterrotor; n0 geratel van een helikopter",
            "drum beat": "c trommelslag|trommelslagen; c slag op een trommel|slagen op een trommel",
            "crackling fire": "n knetterend vuur; n0 geknetter van een vuur",
            "frog croak": "n kikkergeluid|kikkergeluiden; "
            "n kwaakgeluid van een kikker|kwaakgeluiden van een kikker",
            "sawing": "n0 gezaag; n zaaggeluid",
            "electronic beep": "c pieptoon|pieptonen; "
            "c elektronische pieptoon|elektronische pieptonen",
            "buzzing bee": "c zoemende bij; n0 gezoem van een bij",
        },
    ),
    "cat_Latn": Language(
        phrase=romance("i", iberian_article),
        numerals=("", "dos", "tres", "quatre"),
        several="diversos",
        pairs=(
            "{}, després {}",
            "{} i llavors {}",
            "primer {} i després {}",
            "{} i a continuació {}",
        ),
        triples=(
            "{}, després {} i finalment {}",
            "primer {}, després {} i per acabar {}",
            "{}, llavors {} i a continuació {}",
        ),
        frames=(
            "{events}.",
            "Sentim {events}.",
            "L'enregistrament conté {events}.",
            "En aquest enregistrament hi ha {events}.",
            "El micròfon capta {events}.",
        ),
        background_frames=(
            "{events}, amb {background} de fons.",
            "Amb {background} de fons, sentim {events}.",
            "L'enregistrament conté {events} i, alhora, {background}.",
            "Mentre al fons hi ha {background}, el micròfon capta {events}.",
            "Hi ha {events} i, durant tot l'enregistrament, {background}.",
        ),
        adjectives={
            "loud": ("fort forta forts fortes", "potent potent potents potents"),
            "quiet": ("fluix fluixa fluixos fluixes", "feble feble febles febles"),
            "low": ("greu greu greus greus",),
            "high": ("agut aguda aguts agudes",),
            "fast": ("ràpid ràpida ràpids ràpides",),
            "slow": ("lent lenta lents lentes", "pausat pausada pausats pausades"),
        },
        nouns={
            "dog bark": "m lladruc|lladrucs; m lladruc * de gos|lladrucs * de gos",
            "rain": "f0 pluja; m so * de pluja",
            "footsteps": "mp passos; m soroll * de passos",
            "car horn": "m toc * de clàxon|tocs * de clàxon; m toc * de botzina|tocs * de botzina",
            "engine": "m motor; m soroll * de motor",
            "birdsong": "m cant * d'ocell; m refilet * d'ocell",
            "church bell": "m toc * de campana|tocs * de campana; "
            "m toc * de campana d'església|tocs * de campana d'església",
            "wind": "m soroll * de vent; m so * de vent",
            "door knock": "m cop * a la porta|cops * a la porta; m truc * a la porta|"
            "trucs * a la porta",
            "siren": "f sirena; m so * de sirena",
            "water drop": "m so * de gota d'aigua|sons * de gotes d'aigua",
            "sea waves": "fp onades; m so * d'onades",
            "cat meow": "m miol|miols; m miol * de gat|miols * de gat",
            "ticking clock": "m tic-tac * de rellotge",
            "hand clap": "m aplaudiment|aplaudiments; m cop * de mans|cops * de mans",
            "crickets": "m cant * de grills; m so * de grills",
            "whistle": "m toc * de xiulet|tocs * de xiulet",
            "ringing telephone": "m timbre * de telèfon",
            "owl hoot": "m crit * de mussol|crits * de mussol; "
            "m cant * de mussol|cants * de mussol",
            "helicopter": "m rotor * d'helicòpter; m soroll * d'helicòpter",
            "drum beat": "m cop * de tambor|cops * de tambor; m toc * de tambor|tocs * de tambor",
            "crackling fire": "m crepitar * de foc; m espetec * de foc",
            "frog croak": "m rauc|raucs; m rauc * de granota|raucs * de granota",
            "sawing": "m soroll * de serra; m soroll * de xerrac",
            "electronic beep": "m bip|bips; m bip electrònic|bips electrònics",
            "buzzing bee": "m brunzit * d'abella",
        },
    ),
    "jpn_Jpan": Language(
        phrase=japanese,
        numerals=("一回", "二回", "三回", "四回"),
        several="何度か",
        pairs=(
            "{}聞こえた後、{}",
            "まず{}聞こえ、次に{}",
            "{}聞こえ、それから{}",
            "{}聞こえ、続いて{}",
        ),
        triples=(
            "まず{}聞こえ、次に{}聞こえ、最後に{}",
            "{}聞こえ、続いて{}聞こえ、それから{}",
            "{}聞こえた後、{}聞こえ、さらに{}",
        ),
        frames=(
            "{events}聞こえる。",
            "{events}聞こえてくる。",
            "この録音では、{events}する。",
            "{events}耳に入る。",
            "{events}響く。",
        ),
        background_frames=(
            "背景に{background}聞こえる中、{events}聞こえる。",
            "{background}続く中、{events}聞こえてくる。",
            "{events}聞こえ、背景ではずっと{background}している。",
            "後ろで{background}する中、{events}耳に入る。",
            "この録音では終始{background}していて、その手前で{events}響く。",
        ),
        adjectives={
            "loud": ("大きな", "力強い"),
            "quiet": ("小さな", "かすかな"),
            "low": ("低い",),
            "high": ("高い", "甲高い"),
            "fast": ("テンポの速い", "リズムの速い"),
            "slow": ("テンポの遅い", "ゆっくりとした"),
        },
        nouns={
            "dog bark": "- 犬の*鳴き声; - 犬の*吠え声",
            "rain": "- 雨の*音; - 雨が降る*音",
            "footsteps": "- *足音; - 人の*足音",
            "car horn": "- 車のクラクションの*音; - 自動車のクラクションの*音",
            "engine": "- エンジンの*音; - エンジンが回る*音",
            "birdsong": "- 鳥の*鳴き声; - 鳥がさえずる*声",
            "church bell": "- 教会の鐘の*音; - 教会で鳴る鐘の*音",
            "wind": "- 風の*音; - 風が吹く*音",
            "door knock": "- ドアを叩く*音; - ドアをノックする*音",
            "siren": "- サイレンの*音; - サイレンが鳴る*音",
            "water drop": "- 水滴の*音; - 水が滴る*音",
            "sea waves": "- 海の波の*音; - 波が打ち寄せる*音",
            "cat meow": "- 猫の*鳴き声; - 猫が鳴く*声",
            "ticking clock": "- 時計の*音; - 時計が時を刻む*音",
            "hand clap": "- 手を叩く*音; - 手拍子の*音",
            "crickets": "- コオロギの*鳴き声; - コオロギが鳴く*声",
            "whistle": "- 笛の*音; - ホイッスルの*音",
            "ringing telephone": "- 電話の*呼び出し音; - 電話が鳴る*音",
            "owl hoot": "- フクロウの*鳴き声; - フクロウが鳴く*声",
            "helicopter": "- ヘリコプターの*音; - ヘリコプターが飛ぶ*音",
            "drum beat": "- 太鼓の*音; - 太鼓を打つ*音",
            "crackling fire": "- 焚き火の*音; - 火がぱちぱちとはぜる*音",
            "frog croak": "- カエルの*鳴き声; - カエルが鳴く*声",
            "sawing": "- のこぎりの*音; - のこぎりで木を切る*音",
            "electronic beep": "- *電子音; - *ビープ音",
            "buzzing bee": "- 蜂の*羽音; - 蜂が飛び回る*羽音",
        },
    ),
    "zho_Hans": Language(
        phrase=chinese,
        numerals=("一", "两", "三", "四"),
        several="几",
        pairs=("{}，接着是{}", "{}，然后是{}", "{}，随后是{}", "{}，紧跟着是{}"),
        triples=("{}，接着是{}，最后是{}", "{}，然后是{}，再后来是{}", "{}，随后是{}，最后是{}"),
        frames=(
            "{events}。",
            "可以听到{events}。",
            "录音中有{events}。",
            "耳边传来{events}。",
            "这段录音里出现了{events}。",
        ),
        background_frames=(
            "背景中一直有{background}，同时传来{events}。",
            "在{background}的背景下，可以听到{events}。",
            "可以听到{events}，背景是{background}。",
            "录音中有{events}，同时伴有{background}。",
            "{background}持续不断，其间出现了{events}。",
        ),
        adjectives={
            "loud": ("响亮", "很响"),
            "quiet": ("轻微", "微弱"),
            "low": ("低沉", "音调很低"),
            "high": ("尖细", "音调很高"),
            "fast": ("急促", "节奏很快"),
            "slow": ("缓慢", "节奏很慢"),
        },
        nouns={
            "dog bark": "声 狗叫; 声 犬吠",
            "rain": "- 雨声; - 下雨声",
            "footsteps": "- 脚步声; - 走路声",
            "car horn": "声 汽车喇叭响; 声 汽车鸣笛",
            "engine": "- 发动机声; - 引擎声",
            "birdsong": "- 鸟鸣声; - 鸟叫声",
            "church bell": "声 教堂钟响; 下 教堂钟声",
            "wind": "- 风声; - 刮风声",
            "door knock": "下 敲门声; 次 敲门声",
            "siren": "- 警笛声; - 警报声",
            "water drop": "下 水滴声; 次 滴水声",
            "sea waves": "- 海浪声; - 波浪声",
            "cat meow": "声 猫叫; 次 猫叫声",
            "ticking clock": "- 钟表滴答声; - 时钟走动声",
            "hand clap": "下 拍手声; 次 击掌声",
            "crickets": "- 蟋蟀叫声; - 蟋蟀鸣叫声",
            "whistle": "声 哨响; 声 哨音",
            "ringing telephone": "- 电话铃声; - 电话响铃声",
            "owl hoot": "次 猫头鹰叫声; 声 猫头鹰啼鸣",
            "helicopter": "- 直升机轰鸣声; - 直升机旋翼声",
            "drum beat": "声 鼓响; 下 鼓声",
            "crackling fire": "- 火焰噼啪声; - 柴火噼啪声",
            "frog croak": "声 蛙鸣; 次 青蛙叫声",
            "sawing": "- 锯木声; - 拉锯声",
            "electronic beep": "声 电子提示音; 声 电子蜂鸣",
            "buzzing bee": "- 蜜蜂嗡嗡声; - 蜜蜂飞舞声",
        },
    ),
}
