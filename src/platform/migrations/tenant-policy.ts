/**
 * Tenant scope in the database (PostgreSQL row-level security). Read models are asked as a role that sees only rows of the
 * organizations the transaction names (src/projections/tenant-reads.ts), whatever the query says. Writers are the tables'
 * owner and see everything. Migrations rest on this text: what they once made must not change.
 */

/** A transaction's organizations, comma-separated; `*` stands for all. Without it no row is seen. */
const NAMED = `current_setting('waybill.organizations', true)`;
// Both are sub-selects, so that they are evaluated once for a query and not once for a row.
const ALL = `(select ${NAMED}) = '*'`;
const THESE = `(select string_to_array(${NAMED}, ','))`;

/**
 * Lets readers see a table, each row to its own organization. To be called by the migration that makes a table which
 * queries read; versions that a rebuild makes take it over from the live table.
 *
 * @param isOwn a condition on a row, for a table without `organization_id`. It must name other tables in a function only,
 *   or it would go on meaning the version of them that was live when it was made
 */
export const protect = (table: string, isOwn = `organization_id = any (${THESE}::text[])`): string => `
  alter table ${table} enable row level security;
  create policy tenant on ${table} for select to waybill_reader using (${ALL} or ${isOwn});
  grant select on ${table} to waybill_reader`;
