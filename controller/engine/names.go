package engine

import (
	"fmt"
	"hash/fnv"
	"slices"
)

// freshName makes a name like "brave-otter-1" that nobody has; seed is random.
func freshName(seed string, taken func(prefix string) ([]string, error)) (string, error) {
	return withNumber(words(seed)+"-", 1, taken)
}

// freshWords makes a name like "brave-otter" that nobody has, with a number
// only where it is needed.
func freshWords(seed string, taken func(prefix string) ([]string, error)) (string, error) {
	name := words(seed)
	names, err := taken(name)
	if err != nil || !slices.Contains(names, name) {
		return name, err
	}
	return withNumber(name+"-", 2, taken)
}

// withNumber is prefix with the lowest number, at least from, that is free.
func withNumber(prefix string, from int, taken func(prefix string) ([]string, error)) (string, error) {
	names, err := taken(prefix)
	if err != nil {
		return "", err
	}
	for i := from; ; i++ {
		if name := fmt.Sprint(prefix, i); !slices.Contains(names, name) {
			return name, nil
		}
	}
}

// words are an adjective and a noun, chosen by the seed.
func words(seed string) string {
	adjectives := []string{
		"brave", "bright", "calm", "clever", "cool", "eager", "fair", "fast", "fine", "fresh", "gentle", "good",
		"happy", "honest", "jolly", "keen", "kind", "light", "lively", "loud", "lucky", "mild", "neat", "nice",
		"proud", "quick", "quiet", "rare", "ready", "sharp", "shy", "silent", "smart", "smooth", "soft", "strong",
		"sunny", "sweet", "swift", "tidy", "warm", "wet", "wise", "witty",
	}
	nouns := []string{
		"ant", "badger", "bat", "bear", "bee", "bird", "cat", "cow", "crab", "crow", "deer", "dog", "dove", "duck",
		"eagle", "eel", "elk", "emu", "falcon", "fox", "frog", "goat", "goose", "hare", "hawk", "heron", "horse",
		"lion", "lynx", "mole", "moose", "mouse", "newt", "otter", "owl", "panda", "puma", "rabbit", "raven",
		"robin", "seal", "shark", "sloth", "snail", "swan", "tiger", "toad", "turtle", "walrus", "whale", "wolf",
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(seed)) // a hash never fails
	n := h.Sum64()
	return adjectives[n%uint64(len(adjectives))] + "-" + nouns[n/uint64(len(adjectives))%uint64(len(nouns))]
}
