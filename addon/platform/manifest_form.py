"""The admin's form for a manifest, pasted or uploaded."""

import json
from datetime import datetime
from typing import Any

from django import forms

from addon.manifest import InvalidManifest, Manifest, parse_manifest
from addon.platform.partners import OwnService, Registered, ServiceInUse, register_partner

MANIFEST_MAX_BYTES = 100_000


class ManifestForm(forms.Form):
    text = forms.CharField(
        label="Manifest",
        required=False,
        max_length=MANIFEST_MAX_BYTES,
        widget=forms.Textarea(attrs={"rows": 24, "cols": 100, "spellcheck": "false"}),
        help_text="what addon-manifest.json holds; its secrets are stored encrypted",
    )
    file = forms.FileField(label="or a file", required=False)
    new_secret = forms.BooleanField(
        label="Make another OAuth client secret",
        required=False,
        help_text="the provider must be told; the one that it has stops working",
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        file = cleaned.get("file")
        if file is not None and file.size > MANIFEST_MAX_BYTES:
            raise forms.ValidationError(f"The file can have at most {MANIFEST_MAX_BYTES} bytes.")
        text = cleaned.get("text", "") if file is None else file.read()
        try:
            cleaned["manifest"] = parse_manifest(json.loads(text))
        except InvalidManifest as error:
            raise forms.ValidationError(f"{error}.") from None
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}.") from None
        return cleaned

    def register(self, now: datetime) -> Registered | None:
        """None when the service cannot be registered so; the form then says why."""
        manifest: Manifest = self.cleaned_data["manifest"]
        try:
            return register_partner(manifest, now, new_secret=self.cleaned_data["new_secret"])
        except (OwnService, ServiceInUse) as error:
            self.add_error(None, f"{error}.")
            return None
