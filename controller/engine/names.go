package engine

import (
	"fmt"
	"hash/fnv"
)

// freshName makes a name like "brave-otter-1" that nobody has; seed is random.
func freshName(seed string, taken func(prefix string) ([]string, error)) (string, error) {
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
	if _, err := h.Write([]byte(seed)); err != nil {
		return "", fmt.Errorf("hash seed: %w", err)
	}
	n := h.Sum64()
	prefix := adjectives[n%uint64(len(adjectives))] + "-" + nouns[n/uint64(len(adjectives))%uint64(len(nouns))] + "-"
	names, err := taken(prefix)
	if err != nil {
		return "", err
	}
	has := map[string]bool{}
	for _, name := range names {
		has[name] = true
	}
	for i := 1; ; i++ {
		if name := fmt.Sprint(prefix, i); !has[name] {
			return name, nil
		}
	}
}
