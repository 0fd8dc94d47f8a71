SwaggerUIBundle({
  url: "/openapi/platform.json",
  dom_id: "#document",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // else the document's address is sent to swagger.io
});
