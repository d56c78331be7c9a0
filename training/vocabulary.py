# SPDX-License-Identifier: Apache-2.0
"""Words that facts are filled with. What stands in HELD_OUT is kept for evaluation."""

FIRST_NAMES = """
Anna Peter Maria Thomas Ingrid Paul Clara Henry Lucy Oscar Emma Martin Julia Robert Helen David
Sarah Michael Laura Daniel Alice Frank Nora Walter Ruth Simon Eva Hugo Rosa Victor Irene Albert
Marta Felix Olga Leon Greta Max Sophie Jonas Amelia George Edith Arthur Mabel Ernest Ivan Pierre
Carmen Diego Yuki Kenji Amina Omar Leila Ravi Priya Chen Mei Kofi Zara Bruno Elena Marco Giulia
Lars Astrid Sven Freya Nikolai Tatiana Pavel Jana Milos Petra Andrei Sofia Tom Kate Jack Molly
John Mary William Elizabeth James Jane Edward Charlotte Richard Margaret
""".split()
LAST_NAMES = """
Berger Smith Solberg Weber Novak Rossi Dubois Garcia Kowalski Jensen Larsen Fischer Keller Brown
Wilson Taylor Clarke Wright Hughes Turner Parker Cooper Morgan Bennett Foster Hayes Reed Murphy
Doyle Sullivan Campbell Stewart Fraser Petrov Ivanov Sokolov Tanaka Suzuki Nakamura Wang Li Zhang
Kumar Singh Patel Haddad Mansour Okafor Mensah Silva Santos Pereira Moreau Laurent Lefevre Ricci
Conti Bruno Greco Hansen Nielsen Lindberg Nyström Virtanen Korhonen Horvat Popescu Dimitrov Kaya
Demir Cohen Levy Marsh Fletcher Barker Hartley Whitfield Ashworth Pemberton Thornton Blackwood
""".split()
TITLES = "Mr. Mrs. Miss Dr. Captain Professor Aunt Uncle Old Sister Father Colonel Lady".split()
CITIES = """
Hamburg Vienna Paris London Madrid Rome Oslo Prague Warsaw Dublin Athens Lyon Milan Geneva Zurich
Antwerp Rotterdam Leipzig Dresden Krakow Budapest Belgrade Sofia Bergen Malmö Turin Naples Seville
Valencia Porto Bordeaux Marseille Toulouse Nantes Lille Cologne Munich Stuttgart Basel Salzburg
Glasgow Edinburgh Bristol York Leeds Oxford Boston Chicago Denver Seattle Toronto Montreal Lima
Quito Havana Cairo Tunis Dakar Accra Lagos Nairobi Delhi Mumbai Kyoto Osaka Seoul Manila Hanoi
Sydney Perth Auckland Riga Vilnius Kiev Odessa Tbilisi Baku Damascus Beirut Haifa Tehran Kabul
""".split()
NOUNS = """
lamp chair table mirror clock lantern bucket ladder basket bottle kettle candle carpet curtain drawer
cupboard chest trunk suitcase umbrella hat coat scarf glove boot ring necklace bracelet crown sword
shield dagger helmet drum flute violin piano guitar trumpet bell book letter map diary notebook pen
painting statue vase bowl plate cup spoon fork knife barrel crate box bag purse wallet coin key lock
door window gate bridge boat ship cart wagon carriage bicycle car bus plane kite ball doll toy puppet
machine engine wheel pump hammer saw axe shovel rake plough anchor rope net sail flag stove oven
fountain telescope compass microscope camera radio telephone typewriter desk shelf bench sofa bed
blanket pillow stone shell feather bone horn tree bush rose tulip apple pear cheese cake loaf pie
ferry coach steamer tram parcel package envelope document contract manuscript album portrait medal
trophy tent cage jar tin flask whistle horseshoe chessboard locket brooch tapestry globe cabinet
""".split()
PLURALS = """
spoons books horses sheep cows goats chickens ducks coins stamps candles chairs lamps apples pears
oranges lemons eggs bottles barrels boxes letters keys rings boats ships wagons bicycles dolls cats
dogs rabbits pigeons swords shields drums violins clocks mirrors carpets paintings statues maps pens
tickets tables windows doors shirts hats boots gloves buttons ribbons roses tulips trees nails ropes
shells stones feathers pumpkins cabbages turnips onions loaves cakes pies sacks baskets ladders oars
""".split()
ADJECTIVES = """
old new small large big little red blue green black white grey brown yellow silver golden wooden iron
broken heavy light round square long short tall narrow wide rusty dusty dark bright ancient modern
famous strange quiet noisy northern southern eastern western upper lower first second third last
royal private public secret hidden lost forgotten painted carved copper brass marble leather stolen
""".split()
SPOTS = """
library museum theatre school church tower castle palace mill bakery pharmacy hotel inn tavern market
station harbour airport hospital university bank post~office town~hall observatory garden park zoo
bridge cathedral monastery chapel warehouse factory workshop laboratory prison barracks courthouse
cemetery windmill brewery dairy farm stable barn cottage villa mansion gallery archive bookshop cinema
swimming~pool stadium concert~hall power~station customs~house dockyard quarry mine well cellar attic
""".split()
EVENTS = """
concert wedding festival meeting lecture exhibition parade race regatta tournament fair auction~sale
conference rehearsal performance opera play ball dinner picnic excursion ceremony trial hearing exam
course class seminar service funeral christening election debate feast dance show match game workshop
market voyage expedition journey retreat vigil
""".split()
ORGS = """
Company Society Bank Brothers Institute Academy Club Union College School Foundation Orchestra Press
Trading~Company Railway Works Museum League Association Guild Circus Choir Brewery Shipping~Line
""".split()
KIN = """
brother sister father mother uncle aunt cousin nephew niece grandfather grandmother godfather teacher
neighbour friend lawyer doctor partner landlord servant tutor guardian rival assistant secretary boss
""".split()
ANIMALS = "dog cat horse parrot donkey goat rabbit pony canary tortoise hamster falcon pig cow mule ferret".split()
BODY_PARTS = "eyes shoes boots gloves stockings buttons curtains sleeves".split()
JOBS = """
a~teacher a~baker a~carpenter a~tailor a~butcher a~lawyer a~doctor a~nurse a~sailor a~farmer a~painter
an~engineer a~clerk a~cook a~gardener a~blacksmith a~driver a~porter a~singer a~dancer an~actor a~judge
a~miner a~fisherman a~shoemaker a~printer a~barber a~plumber a~translator a~librarian a~chemist
""".split()
COLOURS = """
red blue green yellow black white grey brown purple orange pink violet crimson scarlet turquoise beige
golden silver ivory maroon olive lilac amber emerald azure
""".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December".split()
)
LANGUAGES = """
French German Italian Spanish Dutch Polish Russian Greek Turkish Arabic Hebrew Latin Swedish Danish
Norwegian Finnish Czech Hungarian Portuguese Chinese Japanese Korean Hindi Persian Welsh Irish
""".split()
NUMBER_WORDS = """
two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
""".split()
SMALL_NUMBERS = ["zero", "one", *NUMBER_WORDS[:18]]
TENS = NUMBER_WORDS[18:]
OTHER_DETERMINERS = "his her their my our its another every some that one his her".split()
PARTNERS = "Sons Daughters Brothers Company Partners Nephews Sisters".split()
CURRENCIES = "pounds dollars francs crowns shillings euros guineas marks roubles ducats florins pence".split()
LENGTHS = "metres feet miles inches kilometres yards paces leagues fathoms centimetres".split()
WEIGHTS = "pounds kilograms grams ounces tons stone kilos".split()
TIMES = "minutes hours days weeks months years seconds".split()
PREPOSITIONS = """
under behind beside near above below inside beneath against beyond opposite before around across
""".split()
WHERE = """
under behind beside near above below inside beneath opposite on~top~of at~the~foot~of next~to in~front~of
between at~the~back~of on in under
""".split()
PUT = [
    ("put", "put", "put"), ("leave", "left", "left"), ("keep", "kept", "kept"), ("lay", "laid", "laid"),
    ("store", "stored", "stored"), ("bury", "buried", "buried"), ("drop", "dropped", "dropped"),
    ("lose", "lost", "lost"), ("find", "found", "found"), ("place", "placed", "placed"),
    ("see", "saw", "seen"), ("forget", "forgot", "forgotten"), ("lock", "locked", "locked"),
]  # fmt: skip
MAKE = [
    ("make", "made", "made"), ("build", "built", "built"), ("design", "designed", "designed"),
    ("paint", "painted", "painted"), ("invent", "invented", "invented"), ("carve", "carved", "carved"),
    ("repair", "repaired", "repaired"), ("discover", "discovered", "discovered"),
    ("draw", "drew", "drawn"), ("order", "ordered", "ordered"), ("cast", "cast", "cast"),
]  # fmt: skip
IRREGULAR_VERBS = """
buy-bought-bought sell-sold-sold find-found-found lose-lost-lost take-took-taken give-gave-given
see-saw-seen hear-heard-heard read-read-read write-wrote-written draw-drew-drawn steal-stole-stolen
break-broke-broken build-built-built bring-brought-brought send-sent-sent catch-caught-caught
keep-kept-kept hold-held-held leave-left-left meet-met-met choose-chose-chosen wear-wore-worn
hide-hid-hidden ride-rode-ridden drive-drove-driven throw-threw-thrown eat-ate-eaten feed-fed-fed
bite-bit-bitten sing-sang-sung teach-taught-taught tell-told-told sweep-swept-swept win-won-won
forget-forgot-forgotten seek-sought-sought shake-shook-shaken tear-tore-torn bind-bound-bound
""".split()
REGULAR_VERBS = """
paint open close carry borrow repair polish wash clean watch follow visit discover inspect describe
photograph order collect count guard protect destroy burn drop pull push lift measure mention notice
pass praise blame prepare present promise purchase receive recommend recover remember remove rent
replace request rescue sketch stitch taste test touch trade translate unpack weigh wrap admire deliver
decorate examine expect explain gather greet hire import inherit invent lock mend move need obtain offer
own pack pick plant play produce promise prove raise record refuse reject release report respect restore
reveal save search select share smuggle sort store study support surprise trust use value want warn
welcome abandon accept adore arrange assemble bless bury change claim collect conceal cook copy demand
deny design desire display divide dream enjoy envy exchange finish fetch grind handle hate heat hunt
""".split()
ATTRIBUTES = """
secret~code access~code phone~number locker~number magic~number password room~number licence~number
account~number serial~number ticket~number secret~word code~name code~word home~town middle~name
lucky~number badge~number key pin~code secret~number order~number port~number motto postcode username
batch~number registration invoice~number passport~number lot~number call~sign signature emblem rank
version model~number frequency reference booking~code catalogue~number watchword surname alias
""".split()
ROLES = """
gardener baker captain old~sailor night~watchman librarian tailor river~pilot young~doctor blacksmith
teacher archive north~tower server blue~door test~machine post~office warehouse miller station~master
innkeeper butcher chemist painter violinist governor bishop shepherd fisherman carpenter duchess
""".split()
REASONS = """
the~snow a~broken~wheel the~fog a~fallen~tree the~storm an~old~quarrel the~strike a~lost~shoe
a~missing~horse the~flood heavy~rain a~toothache the~funeral a~forgotten~letter
""".split()
ACTIONS = """
buy fetch see paint sell find repair borrow steal return learn~about hunt~for count photograph measure
write~about look~for ask~about inspect deliver bring~back
""".split()
FOODS = """
honey bread cheese butter soup rice barley oats beans lentils cabbage potatoes mushrooms onions garlic
pepper ginger saffron cinnamon vanilla cloves nutmeg mustard vinegar olives almonds walnuts raisins figs
apricots cherries plums peaches trout salmon herring eel mutton beef ham duck goose pheasant eggs
chocolate coffee tea cider brandy lemonade milk cream pepper~sauce sage thyme mint rosemary molasses
""".split()
DISHES = "soup stew pie cake pudding sauce bread dumplings salad broth jam tart pancakes porridge roast".split()
REMEDIES = "tea oil powder pills syrup ointment drops tincture".split()
INSTRUMENTS = """
violin cello viola flute oboe clarinet trumpet trombone horn harp lute guitar banjo mandolin piano organ
drums cymbals bagpipes fiddle harmonica zither bassoon piccolo tambourine xylophone
""".split()
PRIZES = "medal cross prize order trophy cup ribbon award scholarship diploma star".split()
MOMENTS = """
last night|last summer|last winter|two weeks ago|three years ago|before dawn|after dinner|every morning
|every second Thursday|twice a year|once a month|the day before yesterday|at dusk|during the war
|in the middle of the night|on Christmas Eve|after the harvest|an hour ago|every Sunday|at Easter
|during the storm|in the spring|a week before the wedding|at the end of the month
""".replace("\n", "").split("|")  # fmt: skip

# --- kept for evaluation -------------------------------------------------------------------

HELD_OUT_FIRST_NAMES = "Wendeline Tamsin Ysolde Bertram Odile Casimir Philippa Ambrose".split()
HELD_OUT_LAST_NAMES = (
    "Okonkwo Brannoch Quillfeather Vandermeer Castellano Thistlewood Abernathy".split()
)
HELD_OUT_CITIES = (
    "Bremen Lisbon Ghent Trieste Bologna Aberdeen Gdansk Uppsala Cardiff Winnipeg".split()
)
HELD_OUT_NOUNS = "sundial hourglass accordion wheelbarrow saddle chandelier sleigh harpoon".split()
HELD_OUT_SPOTS = "lighthouse orphanage greenhouse aquarium tannery planetarium boathouse".split()
HELD_OUT_ATTRIBUTES = """
vault~code safe~combination membership~number parcel~number launch~code shelf~number extension
backup~phrase
""".split()
HELD_OUT_ROLES = """
lighthouse~keeper clockmaker astronomer bridge~warden glass~blower harbour~pilot beekeeper weaver
cartographer compiler staging~cluster
""".split()
HELD_OUT_WORDS = {
    part.lower()
    for group in (
        HELD_OUT_FIRST_NAMES, HELD_OUT_LAST_NAMES, HELD_OUT_CITIES, HELD_OUT_NOUNS, HELD_OUT_SPOTS,
    )
    for part in group
} | {
    "keeper", "clockmaker", "astronomer", "warden", "blower", "beekeeper", "weaver", "cartographer",
    "compiler", "staging", "vault", "combination", "membership", "launch", "extension", "backup",
}  # fmt: skip
SYLLABLES = (
    "ba be bi bo bra da del dor el en fa fen gar go hal har hol i ja jo ka kel la len lo ma mar mi "
    "mor na nel no o pa per pol ra ren ri ro sa sel sten ta ter tor u va ver vi wa wen yo za zel"
).split()
