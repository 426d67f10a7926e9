"""A contract for import-linter, which can forbid imports by name but cannot say "these and no others"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from importlinter import Contract, ContractCheck, fields, output

if TYPE_CHECKING:
    from grimp import ImportGraph


class OnlyContract(Contract):
    """The modules in `packages` import nothing but the packages in `allowed` and each other."""

    type_name = "only"

    packages: Any = fields.ListField(subfield=fields.ModuleField())
    allowed: Any = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 - import-linter's signature
        """List every import of a module that is neither allowed nor one of the packages' own."""
        own: set[str] = set()
        for package in self.packages:
            own |= {package.name} | graph.find_descendants(package.name)
        strays = [
            detail
            for importer in sorted(own)
            for imported in sorted(graph.find_modules_directly_imported_by(importer) - own - self.allowed)
            for detail in graph.get_import_details(importer=importer, imported=imported)
        ]
        return ContractCheck(kept=not strays, metadata={"strays": strays})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Show each stray import with its place."""
        for stray in check.metadata["strays"]:
            output.print_error(
                f"- {stray['importer']} imports {stray['imported']} (line {stray['line_number']}): "
                f"{stray['line_contents']}"
            )
        output.new_line()
