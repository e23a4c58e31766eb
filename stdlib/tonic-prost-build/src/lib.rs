//! `tonic-prost-build` as far as `etcd-client` uses it, with `protox` in the place of `protoc`.
//!
//! `etcd-client` generates its code when it is built, and the published crate of this name starts `protoc` for that: a
//! program that a machine with a Rust toolchain alone does not have. `protox` is a library that reads the same files.
//! `[patch.crates-io]` in the workspace's manifest puts this crate in the place of the published one; what it generates is
//! `tonic-build`'s and `prost-build`'s, as there.

use std::io;
use std::path::Path;

use proc_macro2::TokenStream;
use prost_build::{Config, Method, Service};
use quote::ToTokens as _;
use tonic_build::CodeGenBuilder;

/// How code is generated.
#[derive(Debug)]
pub struct Builder {
    server: bool,
}

/// Begins: clients and servers.
pub fn configure() -> Builder {
    Builder { server: true }
}

impl Builder {
    /// Whether servers are generated too.
    pub fn build_server(self, enable: bool) -> Self {
        Self { server: enable }
    }

    /// Generates the code of `.proto` files, which import others from `includes`, into `OUT_DIR`.
    ///
    /// # Errors
    /// A file is missing or malformed, or the code cannot be written.
    pub fn compile_protos(
        self,
        protos: &[impl AsRef<Path>],
        includes: &[impl AsRef<Path>],
    ) -> io::Result<()> {
        let files = protox::compile(protos, includes).map_err(io::Error::other)?;
        Config::new().service_generator(Box::new(self)).compile_fds(files)
    }
}

impl prost_build::ServiceGenerator for Builder {
    fn generate(&mut self, service: Service, code: &mut String) {
        let service = Named { methods: service.methods.iter().cloned().map(Call).collect(), service };
        let mut builder = CodeGenBuilder::new();
        builder.emit_package(true).build_transport(true);
        let mut tokens = builder.generate_client(&service, "super");
        if self.server {
            tokens.extend(builder.generate_server(&service, "super"));
        }
        code.push_str(&tokens.to_string());
    }
}

struct Named {
    service: Service,
    methods: Vec<Call>,
}

impl tonic_build::Service for Named {
    type Comment = String;
    type Method = Call;

    fn name(&self) -> &str {
        &self.service.name
    }

    fn package(&self) -> &str {
        &self.service.package
    }

    fn identifier(&self) -> &str {
        &self.service.proto_name
    }

    fn methods(&self) -> &[Call] {
        &self.methods
    }

    fn comment(&self) -> &[String] {
        &self.service.comments.leading
    }
}

struct Call(Method);

impl tonic_build::Method for Call {
    type Comment = String;

    fn name(&self) -> &str {
        &self.0.name
    }

    fn identifier(&self) -> &str {
        &self.0.proto_name
    }

    #[expect(clippy::unnecessary_literal_bound, reason = "the trait's signature")]
    fn codec_path(&self) -> &str {
        "tonic_prost::ProstCodec"
    }

    fn client_streaming(&self) -> bool {
        self.0.client_streaming
    }

    fn server_streaming(&self) -> bool {
        self.0.server_streaming
    }

    fn comment(&self) -> &[String] {
        &self.0.comments.leading
    }

    fn request_response_name(&self, super_path: &str, _well_known: bool) -> (TokenStream, TokenStream) {
        let path = |name: &str| {
            let text = format!("{super_path}::{name}");
            syn::parse_str::<syn::Path>(&text).map(|path| path.to_token_stream()).unwrap_or_default()
        };
        (path(&self.0.input_type), path(&self.0.output_type))
    }

    fn deprecated(&self) -> bool {
        self.0.options.deprecated()
    }
}
