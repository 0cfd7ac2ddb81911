package pricelist

import "testing"

const product = `{"product":{"attributes":{"instanceType":"m5.large"}},
	"terms":{"OnDemand":{"x":{"priceDimensions":{"y":{"unit":"Hrs","pricePerUnit":{"USD":"0.0960000000"}}}}}}}`

func TestRead(t *testing.T) {
	if name, usd, ok := Read(product); !ok || name != "m5.large" || usd != 0.096 {
		t.Errorf("%s %g %t", name, usd, ok)
	}
	for _, text := range []string{"", "[]", `{}`, `{"terms":{"OnDemand":{"x":{"priceDimensions":{"y":{"unit":"Hrs","pricePerUnit":{"USD":"0"}}}}}}}`} {
		if _, _, ok := Read(text); ok {
			t.Errorf("%q has a price", text)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(product)
	f.Fuzz(func(t *testing.T, text string) {
		if name, usd, ok := Read(text); ok && (name == "" || usd <= 0) {
			t.Errorf("%q costs %g", name, usd)
		}
	})
}
