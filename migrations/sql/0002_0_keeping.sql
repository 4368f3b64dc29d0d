-- What every table of this revision needs, said once.

SET LOCAL ROLE exchange_owner;

-- Fences and grants of a new table. kind 'fact': rows only grow; 'projection': rows change in the
-- columns the app is granted afterwards, and are never deleted. rule: which rows a party's reader
-- sees, an SQL condition; the house sees all.
CREATE FUNCTION keep_table(tab text, kind text, rule text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF kind = 'fact' THEN
        EXECUTE format('CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE ON %I
                        FOR EACH ROW EXECUTE FUNCTION refuse_change()', tab);
    ELSIF kind = 'projection' THEN
        EXECUTE format('CREATE TRIGGER never_deleted BEFORE DELETE ON %I
                        FOR EACH ROW EXECUTE FUNCTION refuse_change()', tab);
    ELSE
        RAISE EXCEPTION 'a table holds facts or a projection, not %', kind;
    END IF;
    EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON %I
                    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', tab);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tab);
    EXECUTE format('CREATE POLICY app_sees_all ON %I TO exchange_app USING (true) WITH CHECK (true)', tab);
    EXECUTE format('CREATE POLICY party_sees_its_own ON %I FOR SELECT TO exchange_reader
                    USING (reading_party() = 1 OR (reading_party() IS NOT NULL AND (%s)))', tab, rule);
    EXECUTE format('GRANT SELECT ON %I TO exchange_reader', tab);
    EXECUTE format('GRANT SELECT, INSERT ON %I TO exchange_app', tab);
END
$$;
REVOKE ALL ON FUNCTION keep_table(text, text, text) FROM PUBLIC;

RESET ROLE;
