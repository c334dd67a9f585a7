"""The small vocabulary of builtin:tiny: byte-level BPE in CLIP's format (Sennrich et al. 2016; Radford et al. 2021).

    vocabulary.py PICTURES FOLDER       PICTURES: what pictures.py made; FOLDER: data/builtin/tiny/tokenizer

Learns merges from the pictures' names and words.txt, most frequent pair first; of equal ones the pair whose word lacks
the fewest merges to be one token, then in order of the alphabet, so that many words get whole. Entries as CLIP
numbers them: 256 bytes, 256 bytes that end a word ("</w>"), the merges' results, <|startoftext|>, <|endoftext|>;
padding is <|endoftext|> as in SD1.
"""
import collections
import json
import sys
from pathlib import Path

import regex

ENTRIES = 2048
NAME_WEIGHT = 8
LINE_WEIGHTS = range(24, 3, -2)     # of the first lines of words.txt; the others have the last
PIECES = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def byte_characters():
    """GPT-2's printable stand-in for each byte, in the order that the vocabulary numbers them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def count_words(pictures):
    """{word as a tuple of symbols, the last with </w>: weight}"""
    counts, characters = collections.Counter(), byte_characters()

    def add(text, weight):
        for piece in PIECES.findall(text.lower()):
            symbols = [characters[b] for b in piece.encode('utf8')]
            counts[(*symbols[:-1], symbols[-1] + '</w>')] += weight

    for path in sorted(pictures.glob('*.txt')):
        add(path.read_text(encoding='utf8'), NAME_WEIGHT)
    lines = [l for l in (Path(__file__).parent / 'words.txt').read_text().splitlines() if l and l[0] != '#']
    for number, line in enumerate(lines):
        add(line, LINE_WEIGHTS[min(number, len(LINE_WEIGHTS) - 1)])
    return counts


def merged(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i:i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def learn(counts, number):
    merges = []
    while len(merges) < number:
        pairs, symbols = collections.Counter(), {}
        for word, weight in counts.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += weight
                symbols[pair] = min(len(word), symbols.get(pair, len(word)))
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], symbols[p], p))
        merges.append(best)
        counts = {merged(word, best) if best[0] in word else word: weight for word, weight in counts.items()}
    return merges


def special(content):
    return {'content': content, 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': True}


def main():
    pictures, folder = Path(sys.argv[1]), Path(sys.argv[2])
    merges = learn(count_words(pictures), ENTRIES - 514)
    characters = list(byte_characters().values())
    entries = [*characters, *(c + '</w>' for c in characters), *(a + b for a, b in merges),
               '<|startoftext|>', '<|endoftext|>']
    assert len(set(entries)) == len(entries)
    folder.mkdir(parents=True, exist_ok=True)

    def write(name, value):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=0 if name == 'vocab.json' else 2)
                                   + '\n', encoding='utf8')

    write('vocab.json', {entry: i for i, entry in enumerate(entries)})
    (folder / 'merges.txt').write_text('#version: 0.2\n' + ''.join(f'{a} {b}\n' for a, b in merges), encoding='utf8')
    bos, eos = special('<|startoftext|>'), special('<|endoftext|>')
    write('special_tokens_map.json', {'bos_token': bos, 'eos_token': eos, 'unk_token': eos,
                                      'pad_token': '<|endoftext|>'})
    write('tokenizer_config.json', {
        'add_prefix_space': False, 'bos_token': bos, 'do_lower_case': True, 'eos_token': eos, 'errors': 'replace',
        'model_max_length': 77, 'pad_token': '<|endoftext|>', 'tokenizer_class': 'CLIPTokenizer', 'unk_token': eos})
    print(f'{len(entries)} entries, {len(merges)} merges in {folder}')


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
