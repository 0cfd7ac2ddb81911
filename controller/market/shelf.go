package market

// Shelf is what one backend of a project offers.
type Shelf struct {
	Backend string
	List
	// Ready is false while the cloud has not answered for the first time.
	Ready bool
}
