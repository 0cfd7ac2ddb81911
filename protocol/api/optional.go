package api

import "reflect"

// BodyOptional says whether the body of a request of this type may be missing.
func BodyOptional(t reflect.Type) bool { return t.Implements(reflect.TypeFor[optionalBody]()) }
