// Package pricelist reads the products of the AWS Pricing API.
package pricelist

import (
	"encoding/json"
	"strconv"
)

// Read reads a product: its machine type, and its price on demand in USD for an
// hour. It is not ok if one of them is missing.
func Read(text string) (machineType string, usd float64, ok bool) {
	var product struct {
		Product struct {
			Attributes struct {
				InstanceType string `json:"instanceType"`
			} `json:"attributes"`
		} `json:"product"`
		Terms struct {
			OnDemand map[string]struct {
				PriceDimensions map[string]struct {
					Unit         string `json:"unit"`
					PricePerUnit struct {
						USD string `json:"USD"`
					} `json:"pricePerUnit"`
				} `json:"priceDimensions"`
			} `json:"OnDemand"`
		} `json:"terms"`
	}
	if json.Unmarshal([]byte(text), &product) != nil {
		return "", 0, false
	}
	for _, term := range product.Terms.OnDemand {
		for _, d := range term.PriceDimensions {
			price, err := strconv.ParseFloat(d.PricePerUnit.USD, 64)
			if err == nil && price > 0 && d.Unit == "Hrs" {
				return product.Product.Attributes.InstanceType, price, product.Product.Attributes.InstanceType != ""
			}
		}
	}
	return "", 0, false
}
