package decode

import (
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// The patterns of YAML 1.1 plain scalars (spec: configuration.md 1.1).
// Sexagesimal numbers, octal with a bare 0 and yes/no are all in use.
var (
	yamlBool        = regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	yamlTrue        = regexp.MustCompile(`^(?i:yes|true|on)$`)
	yamlNull        = regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)
	yamlInt         = regexp.MustCompile(`^[-+]?(?:0b[0-1_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$`)
	yamlSexagesimal = regexp.MustCompile(`^[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+$`)
	yamlFloat       = regexp.MustCompile(`^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)$`)
	yamlFloatBase60 = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*$`)
	yamlInf         = regexp.MustCompile(`^[-+]?\.(?:inf|Inf|INF)$`)
	yamlNaN         = regexp.MustCompile(`^\.(?:nan|NaN|NAN)$`)
	yamlDate        = regexp.MustCompile(`^(?:\d{4}-\d\d-\d\d|\d{4}-\d\d?-\d\d?(?:[Tt]|[ \t]+)\d\d?:\d\d:\d\d(?:\.\d*)?(?:[ \t]*(?:Z|[-+]\d\d?(?::\d\d)?))?)$`)
)

// resolvePlain gives n the YAML 1.1 meaning of its plain text.
func resolvePlain(n *Node) *Node {
	s := n.Text
	switch {
	case yamlNull.MatchString(s):
		n.Kind = Null
	case yamlBool.MatchString(s):
		n.Kind, n.Bool = Bool, yamlTrue.MatchString(s)
	case yamlInt.MatchString(s):
		return resolveInt(n)
	case yamlSexagesimal.MatchString(s):
		return intNode(n, base60(s))
	case yamlFloat.MatchString(s):
		n.Kind = Float
		n.Float = parseFloat(s)
	case yamlFloatBase60.MatchString(s):
		whole, fraction, _ := strings.Cut(s, ".")
		v, _ := new(big.Float).SetInt(base60(whole)).Float64()
		n.Kind, n.Float = Float, v+math.Copysign(parseFloat("0."+fraction), v)
	case yamlInf.MatchString(s):
		n.Kind, n.Float = Float, math.Inf(1)
		if s[0] == '-' {
			n.Float = math.Inf(-1)
		}
	case yamlNaN.MatchString(s):
		n.Kind, n.Float = Float, math.NaN()
	case yamlDate.MatchString(s):
		n.Kind = Other
	default:
		n.Kind = String
	}
	return n
}

// Sexagesimal says that an integer was typed as 8080:22, which YAML 1.1
// takes for a number to the base of 60.
func (n *Node) Sexagesimal() bool {
	return n.Kind == Int && strings.Contains(n.Text, ":")
}

func resolveInt(n *Node) *Node {
	digits := strings.ReplaceAll(n.Text, "_", "")
	sign := ""
	if digits[0] == '-' || digits[0] == '+' {
		sign, digits = digits[:1], digits[1:]
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0b"):
		base, digits = 2, digits[2:]
	case strings.HasPrefix(digits, "0x"):
		base, digits = 16, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base, digits = 8, digits[1:]
	}
	v, ok := new(big.Int).SetString(sign+digits, base)
	if !ok { // only underscores
		n.Kind = String
		return n
	}
	return intNode(n, v)
}

func base60(s string) *big.Int {
	s = strings.ReplaceAll(s, "_", "")
	negative := strings.HasPrefix(s, "-")
	v, sixty := new(big.Int), big.NewInt(60)
	for part := range strings.SplitSeq(strings.TrimLeft(s, "+-"), ":") {
		digit, _ := new(big.Int).SetString(part, 10)
		v.Mul(v, sixty).Add(v, digit)
	}
	if negative {
		v.Neg(v)
	}
	return v
}

// parseFloat reads a float text with underscores; out of range is infinite.
func parseFloat(s string) float64 {
	// The pattern matched, so the only error is ErrRange: f is infinite then.
	f, _ := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	return f
}
