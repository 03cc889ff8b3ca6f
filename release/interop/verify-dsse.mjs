#!/usr/bin/env node
// Checks a release's signature with Sigstore's own JavaScript verifier: the bundle by the given P-256 key, without a
// transparency log or time stamp, and that the signed in-toto statement's subject is content.tar (which the verifier leaves
// to its caller).
//
// usage: node verify-dsse.mjs RELEASE_DIRECTORY PUBLIC_KEY.pem     (npm install @sigstore/verify @sigstore/bundle)
// Packages are looked up from the working folder. Exit 0: verified. 1: refused.

import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { cwd, exit } from "node:process";

const require = createRequire(join(cwd(), "package.json"));
const { bundleFromJSON } = require("@sigstore/bundle");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");

const refuse = (reason) => {
  console.error(`refused: ${reason}`);
  exit(1);
};

const [directory, keyFile] = process.argv.slice(2);
if (!directory || !keyFile) refuse("usage: node verify-dsse.mjs RELEASE_DIRECTORY PUBLIC_KEY.pem");

const json = JSON.parse(readFileSync(join(directory, "statement.sigstore.json"), "utf8"));
const publicKey = createPublicKey(readFileSync(keyFile));
// The bundle names the key by its fingerprint as OpenSSH prints it: `ssh-keygen -i -m PKCS8 -f KEY.pem | ssh-keygen -lf -`.
const point = publicKey.export({ type: "spki", format: "der" }).subarray(-65);
const wire = [Buffer.from("ecdsa-sha2-nistp256"), Buffer.from("nistp256"), point].flatMap((text) => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return [length, text];
});
const fingerprint = createHash("sha256").update(Buffer.concat(wire)).digest("base64");
const hint = `SHA256:${fingerprint.replace(/=+$/, "")}`;

// The verifier asks for the key that the bundle hints at; only the given one is known.
const finder = (asked) => {
  if (asked !== hint) refuse(`the bundle is signed by key ${asked}, and the given key is ${hint}`);
  return { publicKey, validFor: () => true };
};
const noRoot = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
const verifier = new Verifier(toTrustMaterial(noRoot, finder), {
  tlogThreshold: 0,
  ctlogThreshold: 0,
  timestampThreshold: 0,
});
try {
  verifier.verify(toSignedEntity(bundleFromJSON(json)));
} catch (error) {
  refuse(error.message);
}

const statement = JSON.parse(Buffer.from(json.dsseEnvelope.payload, "base64").toString("utf8"));
const tar = createHash("sha256").update(readFileSync(join(directory, "content.tar"))).digest("hex");
const [subject] = statement.subject;
if (statement._type !== "https://in-toto.io/Statement/v1") refuse(`${statement._type} is not an in-toto Statement v1`);
if (subject.name !== "content.tar" || subject.digest.sha256 !== tar) {
  refuse(`the statement is about ${JSON.stringify(subject)}, and content.tar is ${tar}`);
}
console.log(`verified release ${statement.predicate.serial} of sha256:${tar}`);
