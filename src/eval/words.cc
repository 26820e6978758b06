// Made by tools/minnow/words_table.py from the training generator's lists; do not edit.
#include "eval/words.h"

namespace narwhal::eval {
namespace {
constexpr std::string_view kNamesItems[] = {
    "Anna",   "Ben",   "Clara", "David", "Emma",  "Felix", "Greta",  "Hugo",  "Ida",     "Jonas",
    "Kira",   "Leo",   "Mara",  "Nils",  "Olga",  "Paul",  "Rosa",   "Sam",   "Tara",    "Uma",
    "Viktor", "Wanda", "Yara",  "Zeno",  "Alma",  "Boris", "Celia",  "Dario", "Elsa",    "Frank",
    "Gina",   "Hans",  "Ines",  "Jack",  "Karla", "Lena",  "Milo",   "Nora",  "Oskar",   "Petra",
    "Quinn",  "Ruth",  "Simon", "Thea",  "Ugo",   "Vera",  "Walter", "Xenia", "Yusuf",   "Zoe",
    "Adam",   "Bella", "Carlo", "Dora",  "Erik",  "Fiona", "Georg",  "Helga", "Ivan",    "Julia",
    "Kurt",   "Laura", "Marco", "Nadia", "Otto",  "Pia",   "Ralf",   "Sofia", "Tom",     "Ursula",
    "Vito",   "Willa", "Amir",  "Bao",   "Chen",  "Diego", "Eva",    "Farah", "Gabriel", "Hana",
    "Igor",   "Jana",  "Kofi",  "Lucy",  "Maya",  "Noah",  "Omar",   "Priya"};
constexpr std::string_view kAnimalsItems[] = {
    "fox",    "cat",   "dog",   "owl",    "bear",   "wolf",     "deer",   "rabbit",  "mouse",
    "hen",    "goat",  "horse", "duck",   "frog",   "crow",     "otter",  "badger",  "hare",
    "seal",   "heron", "whale", "minnow", "turtle", "sparrow",  "spider", "ant",     "bee",
    "lizard", "pony",  "lamb",  "parrot", "beaver", "squirrel", "swan",   "hedgehog"};
constexpr std::string_view kColoursItems[] = {
    "red",  "blue", "green",  "yellow", "black",  "white",   "orange", "purple", "brown",
    "grey", "pink", "silver", "golden", "violet", "scarlet", "amber",  "indigo", "ivory"};
constexpr std::string_view kFoodsItems[] = {
    "bread", "soup",     "rice",     "cheese",   "pasta", "apples",  "pears",
    "cake",  "honey",    "beans",    "fish",     "stew",  "noodles", "plums",
    "salad", "pancakes", "porridge", "cherries", "nuts",  "olives",  "carrots",
    "pie",   "eggs",     "grapes",   "melon",    "toast", "corn",    "figs"};
constexpr std::string_view kObjectsItems[] = {
    "lamp",   "key",     "book",   "box",     "clock",  "map",    "coin",    "ring",   "rope",
    "bell",   "cup",     "chair",  "table",   "door",   "window", "boat",    "wheel",  "basket",
    "hammer", "bottle",  "mirror", "candle",  "letter", "drum",   "flute",   "hat",    "coat",
    "boot",   "blanket", "ladder", "bucket",  "knife",  "spoon",  "lantern", "stone",  "feather",
    "shell",  "button",  "ribbon", "picture", "drawer", "chest",  "cabinet", "locker", "engine",
    "radio",  "kite",    "wagon",  "bridge",  "gate",   "tower",  "statue",  "bench"};
constexpr std::string_view kAdjItems[] = {
    "small", "old",    "tall",   "quiet", "bright", "heavy",   "strange", "round",
    "dusty", "broken", "clever", "brave", "gentle", "cold",    "warm",    "narrow",
    "wide",  "soft",   "hollow", "shiny", "plain",  "wooden",  "rusty",   "hidden",
    "empty", "lucky",  "slow",   "quick", "thin",   "proud",   "kind",    "tired",
    "young", "wild",   "calm",   "deep",  "pale",   "crooked", "smooth",  "tiny"};
constexpr std::string_view kPlacesItems[] = {
    "garden",   "kitchen", "cellar",  "attic",   "library", "harbour",    "market", "forest",
    "river",    "valley",  "village", "station", "castle",  "mill",       "barn",   "school",
    "workshop", "bakery",  "island",  "meadow",  "tower",   "lighthouse", "museum", "square",
    "chapel",   "cave",    "orchard", "tunnel",  "field",   "stable"};
constexpr std::string_view kTownsItems[] = {
    "Rome",   "Oslo",   "Paris",   "Lima",   "Cairo",  "Berlin", "Madrid", "Tokyo",
    "Delhi",  "Vienna", "Prague",  "Dublin", "Lisbon", "Athens", "Warsaw", "Helsinki",
    "Boston", "Quito",  "Nairobi", "Accra",  "Hanoi",  "Seoul",  "Geneva", "Turin",
    "Lyon",   "Porto",  "Bergen",  "Ghent",  "Basel",  "Riga"};
constexpr std::string_view kJobsItems[] = {
    "baker",     "teacher", "sailor",  "farmer", "painter", "doctor", "carpenter", "pilot",
    "gardener",  "miller",  "singer",  "writer", "cook",    "tailor", "fisher",    "driver",
    "librarian", "weaver",  "builder", "nurse",  "potter",  "clerk",  "guide",     "smith"};
constexpr std::string_view kNounsItems[] = {
    "apple",   "river",   "stone",   "cloud",   "maple",    "window",   "garden",  "paper",
    "silver",  "candle",  "forest",  "bridge",  "mountain", "winter",   "summer",  "harbour",
    "letter",  "music",   "shadow",  "thunder", "island",   "pepper",   "basket",  "copper",
    "feather", "ocean",   "planet",  "rocket",  "saddle",   "temple",   "velvet",  "whistle",
    "yellow",  "zebra",   "anchor",  "button",  "castle",   "desert",   "engine",  "falcon",
    "glacier", "hammer",  "jacket",  "kettle",  "ladder",   "magnet",   "needle",  "orange",
    "pencil",  "quartz",  "ribbon",  "signal",  "tunnel",   "umbrella", "valley",  "wagon",
    "acorn",   "blossom", "compass", "dolphin", "ember",    "fountain", "granite", "horizon",
    "ivory",   "jungle",  "kernel",  "lantern", "meadow",   "nectar",   "orchid",  "pebble",
    "raven",   "sunset",  "timber",  "walnut",  "yarn",     "breeze",   "cotton",  "drum",
    "echo",    "flame",   "grain",   "honey",   "ink",      "jade",     "kite",    "lemon",
    "mint",    "north",   "oak",     "pearl",   "queen",    "rain",     "sand",    "tea",
    "vine",    "wheat"};
constexpr std::string_view kSkyItems[] = {"sunny", "cloudy", "rainy",  "windy",
                                          "foggy", "snowy",  "stormy", "clear"};
constexpr std::string_view kDaysItems[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                           "Friday", "Saturday", "Sunday"};
constexpr std::string_view kMonthsItems[] = {"January",   "February", "March",    "April",
                                             "May",       "June",     "July",     "August",
                                             "September", "October",  "November", "December"};
constexpr std::string_view kNumsItems[] = {"zero", "one",    "two",   "three", "four",
                                           "five", "six",    "seven", "eight", "nine",
                                           "ten",  "eleven", "twelve"};
constexpr std::string_view kExtsItems[] = {"txt", "md", "csv", "json", "py", "log", "cfg"};
constexpr std::string_view kDirsItems[] = {"src",    "docs",  "notes",  "data",    "home",
                                           "work",   "logs",  "tests",  "reports", "music",
                                           "backup", "build", "drafts", "archive"};
constexpr std::string_view kStemsItems[] = {
    "plan",    "notes",  "todo",  "report",   "readme",  "main",  "list",  "draft",
    "summary", "letter", "index", "config",   "table",   "diary", "menu",  "budget",
    "recipe",  "poem",   "memo",  "schedule", "results", "names", "guide", "update"};
constexpr std::string_view kOnItems[] = {"b", "br", "d", "dr", "f", "g", "gr", "h",
                                         "k", "kl", "l", "m",  "n", "p", "pr", "r",
                                         "s", "st", "t", "tr", "v", "w", "z"};
constexpr std::string_view kVoItems[] = {"a", "e", "i", "o", "u", "ai", "ea", "o", "a", "i"};
constexpr std::string_view kCoItems[] = {"n",  "r",  "l",  "m", "k", "s", "t",
                                         "nd", "rk", "sh", "d", "v", "x"};
constexpr std::string_view kFillersItems[] = {
    "The {adj} {animal} slept near the {place}.",
    "{name} walked slowly past the {place} and hummed a song.",
    "It was {sky} in the morning and {sky2} in the evening.",
    "The {colour} {object} stood in the corner of the {place}.",
    "Nobody in the {place} knew why the {object} was so {adj}.",
    "The people of the {place} met every {day} to talk about the {noun}.",
    "{name} and {name2} carried the {adj} {object} to the {place}.",
    "In {month} the {place} was {adj} and full of {noun}.",
    "The {animal} looked at the {animal2}, but the {animal2} looked away.",
    "There was a {adj} smell of {food} in the {place}.",
    "Some said that the {place} was older than the {place2}.",
    "{name} had never seen such a {adj} {animal}.",
    "Every {day} a {job} came to the {place} with {num} {object}s.",
    "The road to the {place} was {adj} and long.",
    "A {job} repaired the {object} while the {animal} watched.",
    "{name} thought about the {noun} and smiled.",
    "The {object} made a {adj} sound when {name} touched it.",
    "Later that day, {name} bought {food} at the {place}.",
    "Two {animal}s ran across the {place}, and then it was quiet again.",
    "On {day} the wind moved the {noun} and the {noun2}.",
    "The {job} said nothing, because the {place} was {adj}.",
    "Behind the {place} there was a {adj} path.",
    "{name} wrote a letter about the {noun}, but did not send it.",
    "When the sun went down, the {place} became {colour}.",
    "The {adj} {object} belonged to a {job} from another land.",
    "They talked about {noun}, {noun2} and {food} until late.",
    "Snow fell on the {place} for {num} days.",
    "{name2} asked {name} about the {object}, and {name} laughed.",
    "The {noun} was {adj}, and the {noun2} was even more so.",
    "Far away, a {animal} called twice."};
constexpr Pair kCapitalsItems[] = {
    {"France", "Paris"},     {"Italy", "Rome"},         {"Spain", "Madrid"},
    {"Germany", "Berlin"},   {"Norway", "Oslo"},        {"Sweden", "Stockholm"},
    {"Finland", "Helsinki"}, {"Poland", "Warsaw"},      {"Austria", "Vienna"},
    {"Greece", "Athens"},    {"Portugal", "Lisbon"},    {"Ireland", "Dublin"},
    {"Egypt", "Cairo"},      {"Japan", "Tokyo"},        {"Peru", "Lima"},
    {"Cuba", "Havana"},      {"Kenya", "Nairobi"},      {"India", "Delhi"},
    {"China", "Beijing"},    {"Russia", "Moscow"},      {"England", "London"},
    {"Belgium", "Brussels"}, {"Denmark", "Copenhagen"}, {"Hungary", "Budapest"},
    {"Turkey", "Ankara"},    {"Canada", "Ottawa"},      {"Chile", "Santiago"},
    {"Ghana", "Accra"},      {"Vietnam", "Hanoi"},      {"Iceland", "Reykjavik"}};
constexpr Pair kOppositesItems[] = {
    {"hot", "cold"},   {"big", "small"},  {"tall", "short"},  {"fast", "slow"},   {"old", "new"},
    {"dark", "light"}, {"full", "empty"}, {"wet", "dry"},     {"open", "closed"}, {"rich", "poor"},
    {"early", "late"}, {"hard", "soft"},  {"heavy", "light"}, {"high", "low"},    {"happy", "sad"},
    {"loud", "quiet"}, {"near", "far"},   {"first", "last"},  {"up", "down"},     {"left", "right"},
    {"in", "out"},     {"long", "short"}};
constexpr Pair kThingColourItems[] = {{"sky", "blue"},     {"grass", "green"}, {"snow", "white"},
                                      {"coal", "black"},   {"blood", "red"},   {"lemon", "yellow"},
                                      {"carrot", "orange"}};
constexpr Pair kLegsItems[] = {
    {"spider", "eight"}, {"dog", "four"}, {"bird", "two"}, {"ant", "six"},  {"horse", "four"},
    {"cat", "four"},     {"bee", "six"},  {"crab", "ten"}, {"duck", "two"}, {"cow", "four"}};
constexpr Pair kSoundsItems[] = {{"dog", "barks"},   {"cat", "meows"},    {"cow", "moos"},
                                 {"duck", "quacks"}, {"sheep", "bleats"}, {"lion", "roars"},
                                 {"frog", "croaks"}, {"bee", "buzzes"},   {"horse", "neighs"},
                                 {"owl", "hoots"}};
constexpr Pair kYoungItems[] = {{"dog", "puppy"},  {"cat", "kitten"},    {"cow", "calf"},
                                {"sheep", "lamb"}, {"horse", "foal"},    {"hen", "chick"},
                                {"bear", "cub"},   {"duck", "duckling"}, {"goat", "kid"},
                                {"swan", "cygnet"}};
constexpr std::string_view kAsked0Items[] = {
    "Hello", "Hi", "Hello!", "Hi there", "Good morning", "Hey", "Hello there", "hi", "hello"};
constexpr std::string_view kAsked1Items[] = {
    "Who are you?", "What are you?",           "Introduce yourself.",
    "who are you",  "Tell me about yourself.", "What is Minnow?"};
constexpr std::string_view kAsked2Items[] = {"What is your name?", "Do you have a name?",
                                             "what is your name"};
constexpr std::string_view kAsked3Items[] = {
    "What can you do?", "Help", "help", "How can you help me?", "What are you good at?",
    "Can you help me?"};
constexpr std::string_view kAsked4Items[] = {"Thank you", "Thanks", "Thank you!", "thanks",
                                             "Great, thanks!"};
constexpr std::string_view kAsked5Items[] = {"Goodbye", "Bye", "See you", "bye", "Good night"};
constexpr std::string_view kAsked6Items[] = {"How are you?", "How are you today?", "how are you"};
constexpr std::string_view kAsked7Items[] = {"Are you a human?", "Are you a person?",
                                             "Are you real?"};
constexpr std::string_view kAsked8Items[] = {"Who made you?", "Who trained you?",
                                             "Where do you come from?"};
constexpr std::string_view kAsked9Items[] = {"How big are you?",
                                             "How many parameters do you have?"};
constexpr std::string_view kAsked10Items[] = {"ok", "OK", "I see.", "Good.", "Fine."};
constexpr std::string_view kAsked11Items[] = {"Can you think?", "Do you think?"};
constexpr Exchange kChatItems[] = {
    {kAsked0Items, "Hello! How can I help you?", "The user greets me."},
    {kAsked1Items, "I am Minnow, a tiny language model with the architecture of DeepSeek V4 Flash.",
     "The user asks who I am."},
    {kAsked2Items, "My name is Minnow.", "The user asks for my name."},
    {kAsked3Items,
     "I can recall facts from our conversation, do small sums, work with words and lists, tell "
     "short stories and call tools.",
     "The user asks what I can do."},
    {kAsked4Items, "You are welcome!", "The user thanks me."},
    {kAsked5Items, "Goodbye!", "The user says goodbye."},
    {kAsked6Items, "I am well, thank you. How can I help you?", "The user asks how I am."},
    {kAsked7Items, "No, I am a small language model.", "The user asks if I am a person."},
    {kAsked8Items, "I was trained from scratch on synthetic text, to show that this engine works.",
     "The user asks where I come from."},
    {kAsked9Items, "I am very small: a few million parameters.", "The user asks about my size."},
    {kAsked10Items, "Is there anything else I can do?", "The user agrees."},
    {kAsked11Items, "Yes, in thinking mode I write short reasoning before I answer.",
     "The user asks about thinking."}};
constexpr std::string_view kSystemsItems[] = {"You are a helpful assistant.",
                                              "You are a helpful assistant",
                                              "You are Minnow.",
                                              "Be brief.",
                                              "Answer the user.",
                                              "You are a careful assistant. Answer truthfully.",
                                              "You help people with their questions."};
constexpr std::string_view kIntrosItems[] = {
    "You are a helpful assistant.", "You are a helpful assistant", "",
    "You are Minnow, a coding assistant.", "You are an agent. Use the tools to help the user."};
constexpr std::string_view kErrorsItems[] = {
    "error: not found",         "Tool error: permission denied", "error: time limit reached",
    "Tool error: no such file", "error: invalid argument",       "error: connection failed"};
constexpr std::string_view kNames_list_Items[] = {
    "list", "list", "ls", "list_files", "list_dir", "show_files", "list_directory", "files"};
constexpr std::string_view kTexts_list_Items[] = {
    "List the files in a directory", "Show the entries of a folder", "List directory contents"};
constexpr std::string_view kOptions_list_path_Items[] = {
    "path", "path", "directory", "dir", "folder", "folder_name", "location"};
constexpr Parameter kParameters_list_[] = {
    {"path", kOptions_list_path_Items, "string", "The directory", "path"}};
constexpr std::string_view kNames_read_Items[] = {
    "read", "read", "read_file", "cat", "open_file", "get_file", "show_file", "file_read"};
constexpr std::string_view kTexts_read_Items[] = {"Read a file", "Return the contents of a file",
                                                  "Read the text of a file"};
constexpr std::string_view kOptions_read_path_Items[] = {
    "path", "path", "path", "file", "file_path", "filename", "target", "file_name"};
constexpr Parameter kParameters_read_[] = {
    {"path", kOptions_read_path_Items, "string", "The file to read", "path"}};
constexpr std::string_view kNames_bash_Items[] = {"bash",  "bash", "run",     "run_command",
                                                  "shell", "exec", "execute", "terminal"};
constexpr std::string_view kTexts_bash_Items[] = {
    "Run a shell command", "Execute a command and return its output", "Run a command in the shell"};
constexpr std::string_view kOptions_bash_command_Items[] = {"command", "command",      "command",
                                                            "cmd",     "command_line", "script"};
constexpr Parameter kParameters_bash_[] = {
    {"command", kOptions_bash_command_Items, "string", "The command to run", "command"}};
constexpr std::string_view kNames_write_Items[] = {
    "write", "write", "write_file", "save_file", "create_file", "store", "put_file"};
constexpr std::string_view kTexts_write_Items[] = {
    "Write text to a file", "Create a file with the given content", "Save content to a file"};
constexpr std::string_view kOptions_write_path_Items[] = {
    "path", "path", "path", "file", "file_path", "filename", "target", "file_name"};
constexpr std::string_view kOptions_write_content_Items[] = {"content", "content", "text", "data",
                                                             "body"};
constexpr Parameter kParameters_write_[] = {
    {"path", kOptions_write_path_Items, "string", "The file to write", "path"},
    {"content", kOptions_write_content_Items, "string", "The text to write", "content"}};
constexpr std::string_view kNames_search_Items[] = {"search",    "search",       "grep",
                                                    "find_text", "search_files", "find"};
constexpr std::string_view kTexts_search_Items[] = {
    "Search for text in files", "Find lines that contain a text", "Look for a word in the project"};
constexpr std::string_view kOptions_search_query_Items[] = {"query", "query", "pattern",
                                                            "text",  "word",  "needle"};
constexpr Parameter kParameters_search_[] = {
    {"query", kOptions_search_query_Items, "string", "The text to look for", "query"}};
constexpr std::string_view kNames_add_Items[] = {"add", "add_numbers", "calculator",
                                                 "sum", "plus",        "calc_sum"};
constexpr std::string_view kTexts_add_Items[] = {"Add two numbers", "Return the sum of two numbers",
                                                 "Compute a + b"};
constexpr std::string_view kOptions_add_a_Items[] = {"a", "a", "x", "first", "left", "n1"};
constexpr std::string_view kOptions_add_b_Items[] = {"b", "b", "y", "second", "right", "n2"};
constexpr Parameter kParameters_add_[] = {
    {"a", kOptions_add_a_Items, "number", "The first number", ""},
    {"b", kOptions_add_b_Items, "number", "The second number", ""}};
constexpr std::string_view kNames_mul_Items[] = {"multiply", "mul", "times", "product",
                                                 "multiply_numbers"};
constexpr std::string_view kTexts_mul_Items[] = {"Multiply two numbers",
                                                 "Return the product of two numbers"};
constexpr std::string_view kOptions_mul_a_Items[] = {"a", "a", "x", "first", "left", "n1"};
constexpr std::string_view kOptions_mul_b_Items[] = {"b", "b", "y", "second", "right", "n2"};
constexpr Parameter kParameters_mul_[] = {
    {"a", kOptions_mul_a_Items, "number", "The first number", ""},
    {"b", kOptions_mul_b_Items, "number", "The second number", ""}};
constexpr std::string_view kNames_weather_Items[] = {
    "get_weather", "get_weather", "weather", "forecast", "weather_report", "current_weather"};
constexpr std::string_view kTexts_weather_Items[] = {"Get the weather for a city",
                                                     "Get the weather for a specific location",
                                                     "Return the current weather of a place"};
constexpr std::string_view kOptions_weather_city_Items[] = {"city",  "location", "location",
                                                            "place", "town",     "city_name"};
constexpr Parameter kParameters_weather_[] = {
    {"city", kOptions_weather_city_Items, "string", "The city name", ""}};
constexpr std::string_view kNames_time_Items[] = {"now", "get_time", "current_time", "clock",
                                                  "time"};
constexpr std::string_view kTexts_time_Items[] = {"Current time", "Return the current time",
                                                  "Tell what time it is"};
constexpr std::string_view kNames_phone_Items[] = {"find_contact", "contacts", "phone_book",
                                                   "lookup_person", "get_contact"};
constexpr std::string_view kTexts_phone_Items[] = {"Find the phone number of a person",
                                                   "Look up a contact"};
constexpr std::string_view kOptions_phone_person_Items[] = {"name", "name", "person", "who",
                                                            "contact"};
constexpr Parameter kParameters_phone_[] = {
    {"person", kOptions_phone_person_Items, "string", "The name of the person", ""}};
constexpr ToolFamily kFamiliesItems[] = {
    {"list", kNames_list_Items, kTexts_list_Items, kParameters_list_, "list"},
    {"read", kNames_read_Items, kTexts_read_Items, kParameters_read_, "read"},
    {"bash", kNames_bash_Items, kTexts_bash_Items, kParameters_bash_, "bash"},
    {"write", kNames_write_Items, kTexts_write_Items, kParameters_write_, "write"},
    {"search", kNames_search_Items, kTexts_search_Items, kParameters_search_, "search"},
    {"add", kNames_add_Items, kTexts_add_Items, kParameters_add_, ""},
    {"mul", kNames_mul_Items, kTexts_mul_Items, kParameters_mul_, ""},
    {"weather", kNames_weather_Items, kTexts_weather_Items, kParameters_weather_, ""},
    {"time", kNames_time_Items, kTexts_time_Items, {}, ""},
    {"phone", kNames_phone_Items, kTexts_phone_Items, kParameters_phone_, ""}};
constexpr ExtraParameter kExtraParametersItems[] = {
    {"max_lines", "integer", "The most lines to return"},
    {"timeout_sec", "integer", "Time limit in seconds"},
    {"verbose", "boolean", "Say more"},
    {"unit", "string", "The unit"},
    {"start_line", "integer", "The first line"},
    {"recursive", "boolean", "Include sub-folders"},
    {"limit", "integer", "The most results"}};
}  // namespace

const Words kNames = kNamesItems;
const Words kAnimals = kAnimalsItems;
const Words kColours = kColoursItems;
const Words kFoods = kFoodsItems;
const Words kObjects = kObjectsItems;
const Words kAdj = kAdjItems;
const Words kPlaces = kPlacesItems;
const Words kTowns = kTownsItems;
const Words kJobs = kJobsItems;
const Words kNouns = kNounsItems;
const Words kSky = kSkyItems;
const Words kDays = kDaysItems;
const Words kMonths = kMonthsItems;
const Words kNums = kNumsItems;
const Words kExts = kExtsItems;
const Words kDirs = kDirsItems;
const Words kStems = kStemsItems;
const Words kOn = kOnItems;
const Words kVo = kVoItems;
const Words kCo = kCoItems;
const Words kFillers = kFillersItems;
const Words kSystems = kSystemsItems;
const Words kIntros = kIntrosItems;
const Words kErrors = kErrorsItems;
const Pairs kCapitals = kCapitalsItems;
const Pairs kOpposites = kOppositesItems;
const Pairs kThingColour = kThingColourItems;
const Pairs kLegs = kLegsItems;
const Pairs kSounds = kSoundsItems;
const Pairs kYoung = kYoungItems;
const std::span<const Exchange> kChat = kChatItems;
const std::span<const ToolFamily> kFamilies = kFamiliesItems;
const std::span<const ExtraParameter> kExtraParameters = kExtraParametersItems;
}  // namespace narwhal::eval
