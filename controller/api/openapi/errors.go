package openapi

import "maps"

// errorResponses are the answers that are not 200 (spec: rest-api.md 4).
var errorResponses = object{ //nolint:gochecknoglobals // a table
	"400": errorResponse("Refused: what is wrong and, if it can be told, in which field.", "BusinessErrors"),
	"401": errorResponse("No bearer token.", "TextError"),
	"403": errorResponse("The token is wrong, or its user may not do this.", "Forbidden"),
	"404": errorResponse("There is no such project, or nothing is served here.", "NotFound"),
	"422": errorResponse("The request does not have the right shape.", "ValidationErrors"),
}

func errorResponse(description, schema string) object {
	return object{"description": description, "content": object{jsonType: object{"schema": reference(schema)}}}
}

// uploadRefused is a 400 of an upload: what is no form at all is refused with
// a text, as 0.22.5 does.
func uploadRefused() object {
	either := object{"anyOf": []any{reference("BusinessErrors"), reference("TextError")}}
	return object{"description": "Refused: what is wrong.", "content": object{jsonType: object{"schema": either}}}
}

func reference(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func errorSchemas() object {
	text, code := object{"type": "string"}, nullable(object{"type": "string"})
	business := object{"msg": text, "code": code}
	withFields := maps.Clone(business)
	withFields["fields"] = array(text)
	one := closed(business)
	return object{
		"BusinessErrors": closed(object{"detail": array(object{
			"type": "object", "properties": withFields, "required": []string{"code", "msg"}, "additionalProperties": false,
		})}),
		"TextError": closed(object{"detail": text}),
		"Forbidden": object{"anyOf": []any{closed(object{"detail": one}), one}},
		"NotFound":  closed(object{"detail": object{"anyOf": []any{one, text}}}),
		"ValidationErrors": closed(object{"detail": array(closed(object{
			"type": text, "msg": text, "loc": array(object{"anyOf": []any{text, object{"type": "integer"}}}),
		}))}),
	}
}
