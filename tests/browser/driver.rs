//! What the tests need of the WebDriver protocol: JSON over HTTP.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::PATIENCE;

const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser without a window. It and its driver end with it, also when a test fails.
pub(crate) struct Browser {
    driver: Child,
    profile: PathBuf,
    session: String,
    client: Client,
}

impl Browser {
    /// Starts one with these options of Chrome.
    pub(crate) async fn start(mut options: Value) -> Self {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver: apt-get install chromium chromium-driver");
        let profile = std::env::temp_dir().join(format!("rolecall-browser-{}", driver.id()));
        let mut browser = Self {
            driver,
            profile,
            session: String::new(),
            client: Client::new(),
        };
        let output = BufReader::new(browser.driver.stdout.take().unwrap());
        let mut port = None;
        for line in output.lines().map_while(Result::ok) {
            // The words end with a full stop.
            if let Some((_, told)) = line.split_once("started successfully on port ") {
                port = told.trim_end_matches('.').parse::<u16>().ok();
                break;
            }
        }
        let url = format!(
            "http://127.0.0.1:{}",
            port.expect("chromedriver told no port")
        );
        let profile = browser.profile.display();
        options["binary"] = json!("/usr/bin/chromium");
        options["args"] = json!([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1000",
            format!("--user-data-dir={profile}"),
        ]);
        browser.session = format!("{url}/session");
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "WARNING" },
            "unhandledPromptBehavior": "ignore",
        }}});
        let began = browser.ask(Method::POST, "", Some(wanted)).await.unwrap();
        browser.session = format!("{url}/session/{}", began["sessionId"].as_str().unwrap());
        browser
    }

    pub(crate) async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// The visible text of the first element; empty while there is none.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let Ok(element) = self.find(selector).await else {
            return String::new();
        };
        let text = self
            .ask(Method::GET, &format!("{element}/text"), None)
            .await;
        // The element may be replaced in between.
        text.map_or_else(|_| String::new(), |text| text.as_str().unwrap().to_owned())
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.find(selector).await.unwrap();
        self.post(&format!("{element}/click"), json!({})).await;
    }

    pub(crate) async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await.unwrap();
        self.post(&format!("{element}/value"), json!({ "text": text }))
            .await;
    }

    /// Says yes to a question, and returns it.
    pub(crate) async fn accept(&self) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.ask(Method::GET, "/alert/text", None).await {
                Ok(text) => {
                    self.post("/alert/accept", json!({})).await;
                    return text.as_str().unwrap().to_owned();
                }
                Err(error) => assert!(Instant::now() < until, "nothing is asked: {error}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
            .await
    }

    /// What the browser complained about so far.
    pub(crate) async fn log(&self) -> Value {
        self.post("/se/log", json!({ "type": "browser" })).await
    }

    pub(crate) async fn end(self) {
        self.ask(Method::DELETE, "", None).await.unwrap();
    }

    async fn find(&self, selector: &str) -> Result<String, String> {
        let by = json!({ "using": "css selector", "value": selector });
        let found = self.ask(Method::POST, "/element", Some(by)).await?;
        Ok(format!("/element/{}", found[ELEMENT].as_str().unwrap()))
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, path, Some(body)).await.unwrap()
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.session));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.map_err(|error| error.to_string())?;
        let is_right = response.status().is_success();
        let answer = response.text().await.map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        if is_right {
            Ok(value)
        } else {
            Err(value.to_string())
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // The browser has a process group of its own, and may outlive its driver. All its processes name the profile.
        let profile = self.profile.display().to_string();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw)
                && String::from_utf8_lossy(&command).contains(&profile)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = fs::remove_dir_all(&self.profile);
    }
}
